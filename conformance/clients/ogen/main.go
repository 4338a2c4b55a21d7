// What every Go client is asked to do, in the words of ogen.
package main

import (
	"context"
	"fmt"
	"os"

	"conformance/build/ogen/generated"
)

func main() {
	client, err := generated.NewClient(os.Args[1])
	check(err)
	ctx := context.Background()

	found, err := client.GetOverview(ctx, generated.GetOverviewParams{UserID: 1})
	check(err)
	overview := found.(*generated.OverviewHeaders).Response
	fmt.Println("overview", nameOf(overview.User), len(overview.Posts.PostsOk.Data))

	unknown, err := client.GetOverview(ctx, generated.GetOverviewParams{UserID: 999})
	check(err)
	problem := unknown.(*generated.UserNotFound)
	fmt.Println("404", problem.Status, problem.Title)

	ids := generated.GetOverviewsParams{UserID: []int64{1, 999}}
	several, err := client.GetOverviews(ctx, ids)
	check(err)
	line := "batch"
	for _, item := range several.(*generated.BatchHeaders).Response.Items {
		switch item.Type {
		case generated.ItemOkBatchItem:
			line += fmt.Sprintf(" %d %s,", item.ItemOk.UserID, item.Type)
		case generated.ItemFailedBatchItem:
			line += fmt.Sprintf(" %d %s", item.ItemFailed.UserID, item.Type)
		}
	}
	fmt.Println(line)
}

func nameOf(user generated.UserSection) string {
	switch user.Type {
	case generated.UserOkUserSection:
		return user.UserOk.Data.Name
	case generated.FailedUserSection:
		return string(user.Failed.Error.Reason)
	case generated.SkippedUserSection:
		return ""
	}
	panic("a section of an unknown status")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
