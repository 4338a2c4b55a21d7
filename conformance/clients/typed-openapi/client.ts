import { createApiClient, type Fetcher, type Schemas } from "./generated/client";

export type Overview = Schemas.Overview;

const fetcher: Fetcher = {
  fetch: ({ url, urlSearchParams }) => {
    url.search = urlSearchParams?.toString() ?? "";
    return fetch(url);
  },
};

// Each group of parameters has to be there, even if all in it can be left out.
const parameters = (id: number) => ({ path: { user_id: id }, query: {}, header: {} });

export async function overview(url: string, id: number): Promise<Overview> {
  return createApiClient(fetcher, url).get("/v1/users/{user_id}/overview", parameters(id));
}

export async function unknown(url: string, id: number) {
  const answer = await createApiClient(fetcher, url).get("/v1/users/{user_id}/overview", {
    ...parameters(id),
    withResponse: true,
  });
  if (answer.status !== 404) throw new Error("it exists");
  return answer.data;
}

export async function batch(url: string, ids: number[]) {
  const { items } = await createApiClient(fetcher, url).get("/v1/overviews", {
    query: { user_id: ids },
    header: {},
  });
  return items.map((item) => ({ id: item.user_id, status: item.status }));
}
