/** A tour of the demo. If an answer is not as expected here, the exit code is not 0. */
import assert from "node:assert/strict";
import { type Overview, type SectionName, Tributary } from "./client.ts";

const tributary = new Tributary(process.env.TRIBUTARY_URL ?? "http://127.0.0.1:8000");
const SECTIONS: SectionName[] = ["user", "posts", "todos"];

console.log("JSON, while the posts fail");
const overview = overviewOf(
  await tributary.overview(1, { headers: { "X-Demo-Fault": "posts=failing" } }),
);
for (const name of SECTIONS) {
  const section = overview[name];
  console.log(describe(name, section));
  if (section.status === "failed" && section.error.retryable) {
    console.log(`  retrying: ${section.error.href}`);
    console.log(describe(name, overviewOf(await tributary.retry(section.error))[name]));
  }
}
assert(overview.posts.status === "failed");

console.log("JSON, of a user who does not exist");
const unknownUser = await tributary.overview(999);
assert(unknownUser.status === 404);
console.log(`  ${unknownUser.status}: ${unknownUser.body.title}`);

// After 600 ms, a section without an answer is `failed`; after 10 s the client gives up.
const shortDeadline = {
  headers: { "X-Demo-Fault": "posts=slow", "X-Request-Timeout-Ms": 600 },
  signal: AbortSignal.timeout(10_000),
};

console.log("Events, while the posts are slow");
for await (const event of tributary.events(1, shortDeadline)) {
  switch (event.event) {
    case "section":
      console.log(describe(event.data.name, event.data.section));
      break;
    case "done":
      console.log(`  done: ${event.data.status}, ${event.data.complete ? "" : "not "}complete`);
      assert.equal(event.data.status, 200);
      break;
    default:
      unreachable(event);
  }
}

console.log("A batch as NDJSON, while the posts are slow");
const completed: number[] = [];
for await (const item of tributary.items([1, 999, 2], shortDeadline)) {
  completed.push(item.user_id);
  switch (item.status) {
    case "ok":
      console.log(`  ${item.user_id}: ${item.overview.complete ? "" : "not "}complete`);
      break;
    case "failed":
      console.log(`  ${item.user_id}: ${item.error.title}`);
      break;
    default:
      unreachable(item);
  }
}
assert.equal(completed[0], 999);
assert.equal(completed.length, 3);

console.log("The same as JSON");
const batch = await tributary.overviews([1, 999, 2], shortDeadline);
assert(batch.status === 200);
console.log(`  in request order: ${batch.body.items.map((item) => item.user_id).join(", ")}`);

/** One line about a section. It compiles only if no status is forgotten. */
function describe(name: SectionName, section: Overview[SectionName]): string {
  switch (section.status) {
    case "ok":
      return `  ${name}: ${Array.isArray(section.data) ? `${section.data.length} items` : section.data.name}`;
    case "failed":
      return `  ${name}: ${section.error.title} (${section.error.detail})`;
    case "skipped":
      return `  ${name}: not included`;
    default:
      return unreachable(section);
  }
}

/** The overview of an answer; throws a problem. */
function overviewOf(answer: Awaited<ReturnType<Tributary["overview"]>>): Overview {
  switch (answer.status) {
    case 200:
      return answer.body;
    case 422:
      throw new Error(
        answer.body.errors.map((error) => `${error.parameter} ${error.detail}`).join(),
      );
    case 400:
    case 401:
    case 403:
    case 404:
    case 502:
    case 503:
    case 504:
      throw new Error(answer.body.detail);
    default:
      return unreachable(answer);
  }
}

function unreachable(what: never): never {
  throw new Error(`not in the OpenAPI document: ${JSON.stringify(what)}`);
}
