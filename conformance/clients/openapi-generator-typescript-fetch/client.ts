import { Configuration, type Overview, ResponseError, UserNotFoundFromJSON, ViewsApi } from "./generated";

export type { Overview };

const at = (basePath: string) => new ViewsApi(new Configuration({ basePath }));

export async function overview(url: string, id: number): Promise<Overview> {
  return at(url).getOverview({ userId: id });
}

export async function unknown(url: string, id: number) {
  return at(url).getOverview({ userId: id }).then(
    () => { throw new Error("it exists"); },
    async (error: unknown) => {
      if (!(error instanceof ResponseError)) throw error;
      return UserNotFoundFromJSON(await error.response.json());
    },
  );
}

export async function batch(url: string, ids: number[]) {
  const { items } = await at(url).getOverviews({ userId: ids });
  return items.map((item) => ({ id: item.userId, status: item.status }));
}
