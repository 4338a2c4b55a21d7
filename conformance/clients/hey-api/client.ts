import { getOverview, getOverviews, type Overview } from "./generated";
import { createClient } from "./generated/client";

export type { Overview };

const at = (baseUrl: string) => createClient({ baseUrl });

export async function overview(url: string, id: number): Promise<Overview> {
  const path = { user_id: id };
  return (await getOverview({ client: at(url), path, throwOnError: true })).data;
}

export async function unknown(url: string, id: number) {
  const { error } = await getOverview({ client: at(url), path: { user_id: id } });
  if (error?.status !== 404) throw new Error("not the answer that was documented");
  return error;
}

export async function batch(url: string, ids: number[]) {
  const query = { user_id: ids };
  const { data } = await getOverviews({ client: at(url), query, throwOnError: true });
  return data.items.map((item) => ({ id: item.user_id, status: item.status }));
}
