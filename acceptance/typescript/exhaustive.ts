// Compiles only if every section is a discriminated union on `status` and every case is handled.
// Each `case` is on one line: the check also compiles this file without each one, which must fail.

import type { paths } from "./openapi";

type Overview =
  paths["/v1/users/{user_id}/overview"]["get"]["responses"][200]["content"]["application/json"];
type Reason = Extract<Overview["user"], { status: "failed" }>["error"]["reason"];

export function nameOf({ user }: Overview): string {
  switch (user.status) {
    case "ok": return user.data.name;
    case "failed": return advice[user.error.reason];
    case "skipped": return "";
    default: return unreachable(user);
  }
}

export function firstTitle({ posts }: Overview): string | undefined {
  switch (posts.status) {
    case "ok": return posts.data[0]?.title;
    case "failed": return advice[posts.error.reason];
    case "skipped": return undefined;
    default: return unreachable(posts);
  }
}

export function openTodos({ todos }: Overview): number {
  switch (todos.status) {
    case "ok": return todos.data.filter((todo) => !todo.completed).length;
    case "failed": return todos.error.attempts;
    case "skipped": return 0;
    default: return unreachable(todos);
  }
}

// A record over a union requires every member and allows no other.
const advice: Record<Reason, string> = {
  timeout: "It takes too long: try again.",
  unauthorized: "Sign in.",
  forbidden: "It is not yours.",
  unreachable: "It cannot be reached: try again.",
  upstream_status: "It answers with an error status.",
  invalid_payload: "Its answer is invalid.",
  not_found: "There is no such user.",
  circuit_open: "Its circuit breaker is open: try again later.",
  overloaded: "It is overloaded: try again later.",
};

// Compiles only if the properties have these types.
export function shape({ user_id, complete, user, posts }: Overview): [number, boolean, string[]] {
  const asOf: string[] = [];
  if (user.status === "ok") asOf.push(user.as_of);
  if (posts.status === "ok" && posts.stale) asOf.push(posts.as_of);
  return [user_id, complete, asOf];
}

function unreachable(section: never): never {
  throw new Error(`a section of an unknown status: ${JSON.stringify(section)}`);
}
