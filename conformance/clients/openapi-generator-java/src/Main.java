// What every Java client is asked to do, in the words of openapi-generator.

import java.util.List;
import java.util.stream.Collectors;
import org.openapitools.client.ApiClient;
import org.openapitools.client.ApiException;
import org.openapitools.client.api.ViewsApi;
import org.openapitools.client.model.BatchItem;
import org.openapitools.client.model.Failed;
import org.openapitools.client.model.ItemFailed;
import org.openapitools.client.model.ItemOk;
import org.openapitools.client.model.Overview;
import org.openapitools.client.model.Skipped;
import org.openapitools.client.model.UserNotFound;
import org.openapitools.client.model.UserOk;
import org.openapitools.client.model.UserSection;

public class Main {
  public static void main(String[] args) throws Exception {
    ViewsApi views = new ViewsApi(new ApiClient().setBasePath(args[0]));

    Overview overview = views.getOverview(1L, null, null, null, null, null, null);
    int posts = overview.getPosts().getPostsOk().getData().size();
    System.out.println("overview " + nameOf(overview.getUser()) + " " + posts);

    try {
      views.getOverview(999L, null, null, null, null, null, null);
    } catch (ApiException error) {
      UserNotFound problem = UserNotFound.fromJson(error.getResponseBody());
      System.out.println("404 " + problem.getStatus() + " " + problem.getTitle());
    }

    List<BatchItem> items = views.getOverviews(List.of(1L, 999L), null, null, null, null, null).getItems();
    System.out.println("batch " + items.stream().map(Main::told).collect(Collectors.joining(", ")));
    System.exit(0); // okhttp's threads would live for another minute
  }

  static String nameOf(UserSection user) {
    Object section = user.getActualInstance();
    if (section instanceof UserOk ok) return ok.getData().getName();
    if (section instanceof Failed failed) return failed.getError().getReason().getValue();
    if (section instanceof Skipped) return "";
    throw new IllegalStateException("a section of an unknown status");
  }

  static String told(BatchItem item) {
    if (item.getActualInstance() instanceof ItemOk ok) {
      return ok.getUserId() + " " + ok.getStatus();
    }
    ItemFailed failed = item.getItemFailed();
    return failed.getUserId() + " " + failed.getStatus();
  }
}
