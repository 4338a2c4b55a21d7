import { Api, type Overview, type UserNotFound } from "./generated/api";

export type { Overview };

const at = (baseUrl: string) => new Api({ baseUrl }).v1;

export async function overview(url: string, id: number): Promise<Overview> {
  return (await at(url).getOverview(id)).data;
}

export async function unknown(url: string, id: number): Promise<UserNotFound> {
  return at(url).getOverview(id).then(
    () => { throw new Error("it exists"); },
    (answer: { error: UserNotFound }) => answer.error, // a rejection has no type
  );
}

export async function batch(url: string, ids: number[]) {
  const { items } = (await at(url).getOverviews({ user_id: ids })).data;
  return items.map((item) => ({ id: item.user_id, status: item.status }));
}
