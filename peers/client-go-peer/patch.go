package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
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
		again("patch "+kind, func() (err error) {
			answer, err = c.change(ctx, kind, name, value)
			return err
		})
		say(Line{Do: "patched", Name: name, UID: string(answer.UID), Version: answer.ResourceVersion})
	}
}

func (c clients) change(ctx context.Context, kind, name, value string) (*corev1.ConfigMap, error) {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
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
		var answer *corev1.ConfigMap
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			read, err := maps.Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			read.Data["n"] = value
			answer, err = maps.Update(ctx, read, metav1.UpdateOptions{})
			return err
		})
		return answer, err
	}
	return nil, fmt.Errorf("no such kind of patch: %s", kind)
}

// again repeats a call whose connection was cut. What the server itself refuses is a failure, but for what it says while
// it starts.
func again(what string, call func() error) {
	var err error
	for range attempts {
		if err = call(); err == nil {
			return
		}
		if _, told := err.(apierrors.APIStatus); told && !apierrors.IsTooManyRequests(err) && !apierrors.IsServiceUnavailable(err) {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	fail(what, err)
}
