import { lines } from "./lines.ts";
import type { components, paths } from "./schema.d.ts"; // npm run generate
import { serverSentEvents } from "./sse.ts";

type Schemas = components["schemas"];
export type Overview = Schemas["Overview"];
export type SectionName = keyof Schemas["Sections"];
export type SectionError = Schemas["Failed"]["error"];
export type Problem = Schemas["Problem"];
export type BatchItem = Schemas["BatchItem"];
export type OverviewEvent =
  | { event: "section"; data: Schemas["SectionEvent"] }
  | { event: "done"; data: Schemas["DoneEvent"] };

type OneUser = paths["/v1/users/{user_id}/overview"]["get"];
type ManyUsers = paths["/v1/overviews"]["get"];
type Operation = OneUser | ManyUsers;

/** What may be asked besides whose: `{ query: { include: ["posts"] }, headers: { … }, signal }`. */
export interface Asking<O extends Operation> {
  query?: Omit<NonNullable<O["parameters"]["query"]>, "user_id">;
  headers?: NonNullable<O["parameters"]["header"]>;
  signal?: AbortSignal;
}

/** Every status that is documented, with its body: `switch` on the one, and the other is known. */
export type Answer<O extends Operation> = Documented<O["responses"]>;
type Documented<Responses> = {
  [Status in keyof Responses]: Responses[Status] extends { content: infer Content }
    ? { status: Status; body: Content[keyof Content & `application/${"json" | "problem+json"}`] }
    : never;
}[keyof Responses];

/** A stream that was not even begun. */
export class Refused extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.problem = problem;
  }
}

export class Tributary {
  readonly #url: string;

  constructor(url: string) {
    this.#url = url;
  }

  overview(user: number, asking: Asking<OneUser> = {}): Promise<Answer<OneUser>> {
    return this.#json(`/v1/users/${user}/overview`, asking);
  }

  /** What failed once more, alone, and no sooner than it allows. */
  async retry(error: SectionError, asking: Asking<OneUser> = {}): Promise<Answer<OneUser>> {
    await new Promise((resume) => setTimeout(resume, 1000 * (error.retry_after ?? 0)));
    return this.#json(error.href, asking);
  }

  /** Each section when it lands, and `done` at the end. */
  async *events(user: number, asking: Asking<OneUser> = {}): AsyncGenerator<OverviewEvent> {
    const body = await this.#stream(`/v1/users/${user}/overview`, "text/event-stream", asking);
    for await (const { event, data } of serverSentEvents(body)) {
      yield { event, data: JSON.parse(data) } as OverviewEvent;
      if (event === "done") return;
    }
    throw new Error("the stream ended before it was done");
  }

  /** Many users, in the order asked for. */
  overviews(users: number[], asking: Asking<ManyUsers> = {}): Promise<Answer<ManyUsers>> {
    return this.#json(many(users), asking);
  }

  /** Many users, each when it is complete. */
  async *items(users: number[], asking: Asking<ManyUsers> = {}): AsyncGenerator<BatchItem> {
    const body = await this.#stream(many(users), "application/x-ndjson", asking);
    for await (const line of lines(body)) yield JSON.parse(line);
  }

  async #json<O extends Operation>(path: string, asking: Asking<O>): Promise<Answer<O>> {
    const response = await this.#send(path, "application/json", asking);
    return { status: response.status, body: await response.json() } as Answer<O>;
  }

  async #stream<O extends Operation>(path: string, accept: string, asking: Asking<O>) {
    const response = await this.#send(path, accept, asking);
    if (!response.ok || !response.body) throw new Refused(await response.json());
    return response.body;
  }

  #send<O extends Operation>(path: string, accept: string, { query, headers, signal }: Asking<O>) {
    const url = new URL(path, this.#url);
    for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, `${value}`);
    const fields = Object.entries({ accept, ...headers }).map(([name, value]) => [
      name,
      `${value}`,
    ]);
    return fetch(url, { headers: Object.fromEntries(fields), signal: signal ?? null });
  }
}

function many(users: number[]): string {
  return `/v1/overviews?${users.map((user) => `user_id=${user}`).join("&")}`;
}
