// What every Go client is asked to do, in the words of oapi-codegen.
package main

import (
	"context"
	"fmt"
	"os"

	"conformance/build/oapi-codegen/generated"
)

func main() {
	client, err := generated.NewClientWithResponses(os.Args[1])
	check(err)
	ctx := context.Background()

	found, err := client.GetOverviewWithResponse(ctx, 1, nil)
	check(err)
	posts, err := found.JSON200.Posts.AsPostsOk()
	check(err)
	fmt.Println("overview", nameOf(found.JSON200.User), len(posts.Data))

	unknown, err := client.GetOverviewWithResponse(ctx, 999, nil)
	check(err)
	problem := unknown.ApplicationproblemJSON404
	fmt.Println("404", problem.Status, problem.Title)

	ids := &generated.GetOverviewsParams{UserId: []int64{1, 999}}
	batch, err := client.GetOverviewsWithResponse(ctx, ids)
	check(err)
	line := "batch"
	for _, item := range batch.JSON200.Items {
		one, err := item.ValueByDiscriminator()
		check(err)
		switch item := one.(type) {
		case generated.ItemOk:
			line += fmt.Sprintf(" %d %s,", item.UserId, item.Status)
		case generated.ItemFailed:
			line += fmt.Sprintf(" %d %s", item.UserId, item.Status)
		}
	}
	fmt.Println(line)
}

func nameOf(section generated.UserSection) string {
	value, err := section.ValueByDiscriminator()
	check(err)
	switch user := value.(type) {
	case generated.UserOk:
		return user.Data.Name
	case generated.Failed:
		return string(user.Error.Reason)
	case generated.Skipped:
		return ""
	}
	panic("a section of an unknown status")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
