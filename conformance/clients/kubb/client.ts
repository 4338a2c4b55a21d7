import { setConfig } from "@kubb/plugin-client/clients/axios";
import { AxiosError } from "axios";
import { getOverview, getOverviews, type GetOverview404, type Overview } from "./generated";

export type { Overview };

export async function overview(url: string, id: number): Promise<Overview> {
  setConfig({ baseURL: url });
  return getOverview(id);
}

export async function unknown(url: string, id: number): Promise<GetOverview404> {
  return overview(url, id).then(
    () => { throw new Error("it exists"); },
    (error: AxiosError<GetOverview404>) => error.response!.data, // a rejection has no type
  );
}

export async function batch(url: string, ids: number[]) {
  setConfig({ baseURL: url });
  const { items } = await getOverviews({ user_id: ids });
  return items.map((item) => ({ id: item.user_id, status: item.status }));
}
