import { AxiosError } from "axios";
import { createApiClient, schemas } from "./generated/client";

type Api = ReturnType<typeof createApiClient>;
export type Overview = Awaited<ReturnType<Api["get_overview"]>>;

export async function overview(url: string, id: number): Promise<Overview> {
  return createApiClient(url).get_overview({ params: { user_id: id } });
}

export async function unknown(url: string, id: number) {
  return createApiClient(url).get_overview({ params: { user_id: id } }).then(
    () => { throw new Error("it exists"); },
    (error: unknown) => {
      if (!(error instanceof AxiosError)) throw error;
      return schemas.UserNotFound.parse(error.response?.data);
    },
  );
}

export async function batch(url: string, ids: number[]) {
  const { items } = await createApiClient(url).get_overviews({ queries: { user_id: ids } });
  return items.map((item) => ({ id: item.user_id, status: item.status }));
}
