// What every Go client is asked to do, in the words of openapi-generator.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"conformance/build/openapi-generator-go/generated"
)

func main() {
	configuration := generated.NewConfiguration()
	configuration.Servers = generated.ServerConfigurations{{URL: os.Args[1]}}
	views := generated.NewAPIClient(configuration).ViewsAPI
	ctx := context.Background()

	overview, _, err := views.GetOverview(ctx, 1).Execute()
	check(err)
	fmt.Println("overview", nameOf(overview.User), len(overview.Posts.PostsOk.Data))

	_, _, err = views.GetOverview(ctx, 999).Execute()
	var failure *generated.GenericOpenAPIError
	if !errors.As(err, &failure) {
		panic(err)
	}
	problem := failure.Model().(generated.UserNotFound)
	fmt.Println("404", problem.Status, problem.Title)

	batch, _, err := views.GetOverviews(ctx).UserId([]int64{1, 999}).Execute()
	check(err)
	line := "batch"
	for _, item := range batch.Items {
		switch item := item.GetActualInstance().(type) {
		case *generated.ItemOk:
			line += fmt.Sprintf(" %d %s,", item.UserId, item.Status)
		case *generated.ItemFailed:
			line += fmt.Sprintf(" %d %s", item.UserId, item.Status)
		}
	}
	fmt.Println(line)
}

func nameOf(section generated.UserSection) string {
	switch user := section.GetActualInstance().(type) {
	case *generated.UserOk:
		return user.Data.Name
	case *generated.Failed:
		return user.Error.Reason
	case *generated.Skipped:
		return ""
	}
	panic("a section of an unknown status")
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
