// What every Kotlin client is asked to do, in the words of openapi-generator.

import kotlin.system.exitProcess
import kotlinx.coroutines.runBlocking
import org.openapitools.client.apis.ViewsApi
import org.openapitools.client.infrastructure.ApiClient
import org.openapitools.client.infrastructure.Serializer
import org.openapitools.client.models.BatchItem
import org.openapitools.client.models.PostsSection
import org.openapitools.client.models.UserNotFound
import org.openapitools.client.models.UserSection

// Compiles only if the union is sealed, and no case is missing.
fun nameOf(user: UserSection): String =
    when (user) {
        is UserSection.OkWrapper -> user.value.data.name
        is UserSection.FailedWrapper -> user.value.error.reason.value
        is UserSection.SkippedWrapper -> ""
    }

fun told(item: BatchItem): String =
    when (item) {
        is BatchItem.OkWrapper -> "${item.value.userId} ${item.value.status}"
        is BatchItem.FailedWrapper -> "${item.value.userId} ${item.value.status}"
    }

fun main(args: Array<String>): Unit = runBlocking {
    val views = ApiClient(args[0]).createService(ViewsApi::class.java)

    val overview = views.getOverview(1).body()!!
    val posts = overview.posts as PostsSection.OkWrapper
    println("overview ${nameOf(overview.user)} ${posts.value.data.size}")

    val body = views.getOverview(999).errorBody()!!.string()
    val problem = Serializer.kotlinxSerializationJson.decodeFromString<UserNotFound>(body)
    println("404 ${problem.status.value} ${problem.title}")

    val batch = views.getOverviews(listOf(1, 999)).body()!!
    println("batch ${batch.items.joinToString { told(it) }}")
    exitProcess(0) // okhttp's threads would live for another minute
}
