package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Attempts of one call, while its connection is cut.
const attempts = 100

var patched int

// patch makes count changes of the program's own objects: a patch of each kind in turn, and an update of what was read
// before, as controllers do it.
func (c clients) patch(ctx context.Context, kinds []string, count int) {
	for range count {
		patched++
		name := fmt.Sprintf("client-go-%d", patched%5)
		kind := kinds[patched%len(kinds)]
		value := strconv.Itoa(patched)
		var answer *corev1.ConfigMap
		again("", "patch "+kind, func() (err error) {
			answer, err = c.change(ctx, kind, name, value)
			return err
		})
		say(Line{Do: "patched", Name: name, UID: string(answer.UID), Version: answer.ResourceVersion})
	}
}

func (c clients) change(ctx context.Context, kind, name, value string) (*corev1.ConfigMap, error) {
	maps := c.patches.CoreV1().ConfigMaps(c.namespace)
	body := []byte(`{"data":{"n":"` + value + `"}}`)
	var options metav1.PatchOptions
	switch kind {
	case "merge":
		return maps.Patch(ctx, name, types.MergePatchType, body, options)
	case "strategic":
		return maps.Patch(ctx, name, types.StrategicMergePatchType, body, options)
	case "json":
		operations := []byte(`[{"op":"test","path":"/metadata/name","value":"` + name + `"},{"op":"replace","path":"/data/n","value":"` + value + `"}]`)
		return maps.Patch(ctx, name, types.JSONPatchType, operations, options)
	case "update":
		read, err := maps.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		read.Data["n"] = value
		return maps.Update(ctx, read, metav1.UpdateOptions{})
	}
	return nil, fmt.Errorf("no such kind of patch: %s", kind)
}

// again repeats a call until it succeeds, and says why each attempt did not: whether that may be is for the reader to judge.
func again(stream, what string, call func() error) {
	var err error
	for range attempts {
		if err = call(); err == nil {
			return
		}
		tell(stream, what, err)
		time.Sleep(100 * time.Millisecond)
	}
	fail(what, err)
}
