// What every TypeScript client is asked to do: `client.ts` says how, in the words of its generator.

import { batch, overview, type Overview, unknown } from "./client";

const [url = ""] = process.argv.slice(2);

// Compiles only if a section is a union that its `status` tells apart, and no case is missing.
function nameOf(user: Overview["user"]): string {
  switch (user.status) {
    case "ok":
      return user.data.name;
    case "failed":
      return user.error.reason;
    case "skipped":
      return "";
    default:
      return impossible(user);
  }
}

function impossible(section: never): never {
  throw new Error(`a section of an unknown status: ${JSON.stringify(section)}`);
}

const { user, posts } = await overview(url, 1);
console.log("overview", nameOf(user), posts.status === "ok" ? posts.data.length : posts.status);

const problem = await unknown(url, 999);
console.log("404", problem.status, problem.title);

const items = await batch(url, [1, 999]);
console.log("batch", items.map(({ id, status }) => `${id} ${status}`).join(", "));
