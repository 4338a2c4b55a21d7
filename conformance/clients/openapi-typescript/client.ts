import createClient from "openapi-fetch";
import type { components, paths } from "./generated/schema";

export type Overview = components["schemas"]["Overview"];

const failed = new Error("not the answer that was documented");

export async function overview(url: string, id: number): Promise<Overview> {
  const { data } = await get(url, id);
  if (!data) throw failed;
  return data;
}

export async function unknown(url: string, id: number) {
  const { error } = await get(url, id);
  if (error?.status !== 404) throw failed;
  return error;
}

export async function batch(url: string, ids: number[]) {
  const query = { user_id: ids };
  const { data } = await createClient<paths>({ baseUrl: url }).GET("/v1/overviews", { params: { query } });
  if (!data) throw failed;
  return data.items.map((item) => ({ id: item.user_id, status: item.status }));
}

function get(url: string, id: number) {
  const path = { user_id: id };
  return createClient<paths>({ baseUrl: url }).GET("/v1/users/{user_id}/overview", { params: { path } });
}
