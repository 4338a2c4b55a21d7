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

/** Options of a request: `{ query: { include: ["posts"] }, headers: { … }, signal }`. */
export interface RequestOptions<O extends Operation> {
  query?: Omit<NonNullable<O["parameters"]["query"]>, "user_id">;
  headers?: NonNullable<O["parameters"]["header"]>;
  signal?: AbortSignal;
}

/** Every documented status with its body: a `switch` on `status` narrows the type of `body`. */
export type Answer<O extends Operation> = Documented<O["responses"]>;
type Documented<Responses> = {
  [Status in keyof Responses]: Responses[Status] extends { content: infer Content }
    ? { status: Status; body: Content[keyof Content & `application/${"json" | "problem+json"}`] }
    : never;
}[keyof Responses];

/** The service answered a stream request with a problem. */
export class ProblemError extends Error {
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

  overview(user: number, options: RequestOptions<OneUser> = {}): Promise<Answer<OneUser>> {
    return this.#json(`/v1/users/${user}/overview`, options);
  }

  /** Retries the section that failed with this `error`, alone, after its `retry_after`. */
  async retry(
    error: SectionError,
    options: RequestOptions<OneUser> = {},
  ): Promise<Answer<OneUser>> {
    await new Promise((resume) => setTimeout(resume, 1000 * (error.retry_after ?? 0)));
    return this.#json(error.href, options);
  }

  /** Each section when it completes, then `done`. */
  async *events(
    user: number,
    options: RequestOptions<OneUser> = {},
  ): AsyncGenerator<OverviewEvent> {
    const body = await this.#stream(`/v1/users/${user}/overview`, "text/event-stream", options);
    for await (const { event, data } of serverSentEvents(body)) {
      yield { event, data: JSON.parse(data) } as OverviewEvent;
      if (event === "done") return;
    }
    throw new Error("the stream ended before it was done");
  }

  /** The overviews of many users, in request order. */
  overviews(users: number[], options: RequestOptions<ManyUsers> = {}): Promise<Answer<ManyUsers>> {
    return this.#json(batchPath(users), options);
  }

  /** The items of a batch, each when it completes. */
  async *items(
    users: number[],
    options: RequestOptions<ManyUsers> = {},
  ): AsyncGenerator<BatchItem> {
    const body = await this.#stream(batchPath(users), "application/x-ndjson", options);
    for await (const line of lines(body)) yield JSON.parse(line);
  }

  async #json<O extends Operation>(path: string, options: RequestOptions<O>): Promise<Answer<O>> {
    const response = await this.#send(path, "application/json", options);
    return { status: response.status, body: await response.json() } as Answer<O>;
  }

  async #stream<O extends Operation>(path: string, accept: string, options: RequestOptions<O>) {
    const response = await this.#send(path, accept, options);
    if (!response.ok || !response.body) throw new ProblemError(await response.json());
    return response.body;
  }

  #send<O extends Operation>(
    path: string,
    accept: string,
    { query, headers, signal }: RequestOptions<O>,
  ) {
    const url = new URL(path, this.#url);
    for (const [name, value] of Object.entries(query ?? {})) url.searchParams.set(name, `${value}`);
    const fields = Object.entries({ accept, ...headers }).map(([name, value]) => [
      name,
      `${value}`,
    ]);
    return fetch(url, { headers: Object.fromEntries(fields), signal: signal ?? null });
  }
}

function batchPath(users: number[]): string {
  return `/v1/overviews?${users.map((user) => `user_id=${user}`).join("&")}`;
}
