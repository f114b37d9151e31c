package main

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// tell says what a call or a watch ended with. Nothing that the library passes over goes unsaid.
func tell(stream, what string, err error) {
	do := "broken"
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		do = "gone"
	} else if _, told := err.(apierrors.APIStatus); told {
		do = "refused"
	}
	say(Line{Stream: stream, Do: do, Text: what + ": " + err.Error()})
}

// told is a source of lists and watches whose errors are all said, also those that an informer handles without a word.
func told(stream string, source *cache.ListWatch) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := source.ListWithContextFunc(ctx, options)
			if err != nil {
				tell(stream, "list", err)
			}
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watch.Interface, error) {
			watcher, err := source.WatchFuncWithContext(ctx, options)
			if err != nil {
				tell(stream, "watch", err)
				return nil, err
			}
			return listen(ctx, stream, watcher), nil
		},
	}
}

// listen passes a watch on and says how it ended, unless whoever reads it has stopped it.
func listen(ctx context.Context, stream string, watcher watch.Interface) watch.Interface {
	events := make(chan watch.Event)
	passed := watch.NewProxyWatcher(events)
	go func() {
		defer close(events)
		defer watcher.Stop()
		for {
			select {
			case event, open := <-watcher.ResultChan():
				if !open {
					say(Line{Stream: stream, Do: "broken", Text: "watch: ended"})
					return
				}
				if event.Type == watch.Error {
					tell(stream, "event", apierrors.FromObject(event.Object))
				}
				select {
				case events <- event:
				case <-passed.StopChan():
					return
				}
			case <-passed.StopChan():
				return
			}
		}
	}()
	return passed
}
