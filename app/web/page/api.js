/** Requests to Tributary, and the types of its answers. */

import { values } from "./ndjson.js";
import { events } from "./sse.js";
import { ClientError, parseJson } from "./client-error.js";

/** The sections of the view, in its order, as the service put them into the page. */
export const SECTIONS = document.documentElement.dataset.sections.split(",");

/**
 * @typedef {object} Query
 * @property {number} user
 * @property {number} timeout  milliseconds for the whole answer
 * @property {string[]} include
 * @property {string[]} require
 * @property {Record<string, string>} faults  of the demo: `{ posts: "slow" }`
 *
 * @typedef {object} Problem  RFC 9457
 * @property {string} type
 * @property {string} title
 * @property {number} status
 * @property {string} detail
 *
 * @typedef {Problem & {
 *   reason: string, section: string, attempts: number, elapsed_ms: number,
 *   retryable: boolean, retry_after: number | null, href: string,
 * }} Failure
 *
 * @typedef {{ status: "ok", data: unknown, stale: boolean, dropped: number, as_of: string }
 *   | { status: "failed", error: Failure }
 *   | { status: "skipped" }} Section
 *
 * @typedef {object} Done
 * @property {boolean} complete
 * @property {number} status
 * @property {Problem} [error]  when the overview failed
 * @property {import("./timeline.js").Entry[]} [timeline]
 */

/** The URL of a path of the service, relative to the page; never of another origin. */
export const serviceUrl = (path) => new URL(`./${path.replace(/^\/+/, "")}`, document.baseURI);

/** The path of the overview with the timeline of its attempts. */
export const overviewPath = ({ user, ...options }) =>
  `v1/users/${user}/overview?${sectionParams(options)}&explain=true`;

const batchPath = (users, options) =>
  `v1/overviews?${users.map((id) => `user_id=${id}`).join("&")}&${sectionParams(options)}`;

const sectionParams = ({ include, require }) =>
  [`include=${include}`, require.length && `require=${require}`].filter(Boolean).join("&");

/** @param {Query} query */
function headers({ timeout, faults }) {
  const fault = Object.entries(faults).map(([name, kind]) => `${name}=${kind}`);
  return {
    "X-Request-Timeout-Ms": timeout,
    ...(fault.length && { "X-Demo-Fault": fault.join(", ") }),
  };
}

/** The request as a curl command. */
export const asCurl = (query) =>
  [
    `curl -N '${serviceUrl(overviewPath(query))}'`,
    ...Object.entries({ Accept: "text/event-stream", ...headers(query) }).map(
      ([name, value]) => `-H '${name}: ${value}'`,
    ),
  ].join(" \\\n  ");

/**
 * An overview as server-sent events: each section as it completes, then `done`.
 *
 * @param {string} path  returned by `overviewPath`, or the `href` of a failed section
 * @returns {AsyncGenerator<{ event: "section", data: { name: string, section: Section } }
 *   | { event: "done", data: Done }>}
 */
export async function* overview(path, query, signal) {
  for await (const { event, data } of events(
    await open(path, "text/event-stream", query, signal),
  )) {
    yield { event, data: parseJson(data) };
    if (event === "done") return;
  }
  throw new ClientError(
    "The answer is not complete",
    "Tributary closed the stream before the event “done”.",
    {
      retryable: true,
    },
  );
}

/** The items of a batch as NDJSON, in order of completion. */
export async function* batch(users, query, signal) {
  yield* values(await open(batchPath(users, query), "application/x-ndjson", query, signal));
}

async function open(path, accept, query, signal) {
  const options = { headers: { Accept: accept, ...headers(query) }, signal };
  const response = await fetch(serviceUrl(path), options).catch(throwUnreachable);
  if (!response.ok) throw await responseError(response);
  const type = response.headers.get("Content-Type") ?? "nothing";
  if (!type.startsWith(accept)) {
    throw new ClientError("The answer cannot be read", `Its type is ${type} instead of ${accept}.`);
  }
  return response.body;
}

function throwUnreachable(cause) {
  throw new ClientError("Tributary cannot be reached", "Is it running? Is the network up?", {
    retryable: true,
    cause,
  });
}

async function responseError(response) {
  const { title, detail } = await response.json().catch(() => ({}));
  return new ClientError(
    title ?? "Tributary answered with an error",
    detail ?? `The status is ${response.status}.`,
  );
}
