package main

import (
	"context"
	"fmt"
	"sort"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/pager"
	watchtools "k8s.io/client-go/tools/watch"
)

// watch starts every stream and gives what prints the state that each has.
func (c clients) watch(ctx context.Context) []func() {
	resource := corev1.SchemeGroupVersion.WithResource("configmaps")
	maps, untyped, meta := c.typed.CoreV1().ConfigMaps(c.namespace), c.dynamic.Resource(resource).Namespace(c.namespace), c.metadata.Resource(resource).Namespace(c.namespace)
	// As the library's own constructors make them, with sources that tell.
	informer := func(stream string, client any, source *cache.ListWatch, of runtime.Object) func() {
		source = told(stream, source)
		return inform(ctx, stream, cache.NewSharedIndexInformer(cache.ToListWatcherWithWatchListSemantics(source, client), of, 0, cache.Indexers{}))
	}
	return []func(){
		informer("informer", c.typed, source(maps.List, maps.Watch), &corev1.ConfigMap{}),
		informer("dynamic", c.dynamic, source(untyped.List, untyped.Watch), &unstructured.Unstructured{}),
		informer("metadata", c.metadata, source(meta.List, meta.Watch), &metav1.PartialObjectMetadata{}),
		c.raw(ctx, "retry-watcher"),
	}
}

// source is what informers list and watch with.
func source[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error), begin func(context.Context, metav1.ListOptions) (watch.Interface, error)) *cache.ListWatch {
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			return list(ctx, options)
		},
		WatchFuncWithContext: begin,
	}
}

func about(stream, do string, object metav1.Object) Line {
	return Line{Stream: stream, Do: do, Name: object.GetName(), UID: string(object.GetUID()), Version: object.GetResourceVersion()}
}

func access(object any) metav1.Object {
	found, err := meta.Accessor(object)
	if err != nil {
		fail("object", err)
	}
	return found
}

// inform runs an informer: the reflector with its watch that begins with the objects, the queue, the store.
func inform(ctx context.Context, stream string, informer cache.SharedIndexInformer) func() {
	err := informer.SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		say(Line{Stream: stream, Do: "relist", Text: err.Error()})
	})
	if err != nil {
		fail(stream, err)
	}
	handler, err := informer.AddEventHandler(cache.ResourceEventHandlerDetailedFuncs{
		AddFunc: func(object any, initial bool) {
			if initial {
				say(about(stream, "have", access(object)))
			} else {
				say(about(stream, "added", access(object)))
			}
		},
		UpdateFunc: func(before, object any) {
			if access(before).GetResourceVersion() == access(object).GetResourceVersion() {
				say(about(stream, "have", access(object)))
			} else {
				say(about(stream, "modified", access(object)))
			}
		},
		DeleteFunc: func(object any) {
			if vanished, unknown := object.(cache.DeletedFinalStateUnknown); unknown {
				say(about(stream, "vanished", access(vanished.Obj)))
			} else {
				say(about(stream, "deleted", access(object)))
			}
		},
	})
	if err != nil {
		fail(stream, err)
	}
	go informer.RunWithContext(ctx)
	if !cache.WaitForCacheSync(ctx.Done(), handler.HasSynced) {
		fail(stream, fmt.Errorf("never synchronised"))
	}
	say(Line{Stream: stream, Do: "ready"})
	return func() {
		objects := informer.GetStore().List()
		state(stream, len(objects), func(at int) metav1.Object { return access(objects[at]) })
	}
}

// raw watches without a store: pages of a list, then a watch that resumes by itself until it is told 410.
func (c clients) raw(ctx context.Context, stream string) func() {
	have := map[string]metav1.Object{}
	ready := make(chan struct{})
	lock := make(chan struct{}, 1)
	go func() {
		for first := true; ctx.Err() == nil; first = false {
			version := c.list(ctx, stream, func(object metav1.Object, begin bool) {
				lock <- struct{}{}
				if begin {
					clear(have)
				} else {
					have[object.GetName()] = object
				}
				<-lock
			})
			say(Line{Stream: stream, Do: "ready"})
			if first {
				close(ready)
			}
			maps := c.typed.CoreV1().ConfigMaps(c.namespace)
			watcher, err := watchtools.NewRetryWatcherWithContext(ctx, version, told(stream, source(maps.List, maps.Watch)))
			if err != nil {
				fail(stream, err)
			}
			for event := range watcher.ResultChan() {
				if event.Type == watch.Error {
					err := apierrors.FromObject(event.Object)
					if !apierrors.IsResourceExpired(err) && !apierrors.IsGone(err) {
						fail(stream, err)
					}
					continue
				}
				object := access(event.Object)
				lock <- struct{}{}
				do := map[watch.EventType]string{watch.Added: "added", watch.Modified: "modified", watch.Deleted: "deleted"}[event.Type]
				if event.Type == watch.Deleted {
					delete(have, object.GetName())
				} else {
					have[object.GetName()] = object
				}
				<-lock
				say(about(stream, do, object))
			}
		}
	}()
	select {
	case <-ready:
	case <-time.After(time.Minute):
		fail(stream, fmt.Errorf("no list within a minute"))
	}
	return func() {
		lock <- struct{}{}
		defer func() { <-lock }()
		var objects []metav1.Object
		for _, object := range have {
			objects = append(objects, object)
		}
		state(stream, len(objects), func(at int) metav1.Object { return objects[at] })
	}
}

func (c clients) list(ctx context.Context, stream string, each func(object metav1.Object, begin bool)) string {
	var version string
	again(stream, "list", func() error {
		say(Line{Stream: stream, Do: "begin"})
		each(nil, true)
		pages := 0
		lister := pager.New(pager.SimplePageFunc(func(options metav1.ListOptions) (runtime.Object, error) {
			pages++
			list, err := c.typed.CoreV1().ConfigMaps(c.namespace).List(ctx, options)
			if err == nil {
				version = list.ResourceVersion
			}
			return list, err
		}))
		lister.PageSize = page
		err := lister.EachListItem(ctx, metav1.ListOptions{}, func(object runtime.Object) error {
			each(access(object), false)
			say(about(stream, "have", access(object)))
			return nil
		})
		say(Line{Stream: stream, Do: "pages", Text: fmt.Sprint(pages)})
		return err
	})
	return version
}

// state prints what a stream holds at the end.
func state(stream string, count int, at func(int) metav1.Object) {
	var lines []Line
	for number := range count {
		lines = append(lines, about(stream, "state", at(number)))
	}
	sort.Slice(lines, func(a, b int) bool { return lines[a].Name < lines[b].Name })
	for _, line := range lines {
		say(line)
	}
	say(Line{Stream: stream, Do: "end"})
}
