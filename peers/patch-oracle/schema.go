package main

import (
	"fmt"
	"reflect"
	"sort"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// The kinds that patches are applied to.
var objects = map[string]func() runtime.Object{
	"Pod":                   func() runtime.Object { return &corev1.Pod{} },
	"Service":               func() runtime.Object { return &corev1.Service{} },
	"ServiceAccount":        func() runtime.Object { return &corev1.ServiceAccount{} },
	"ConfigMap":             func() runtime.Object { return &corev1.ConfigMap{} },
	"Secret":                func() runtime.Object { return &corev1.Secret{} },
	"Namespace":             func() runtime.Object { return &corev1.Namespace{} },
	"Node":                  func() runtime.Object { return &corev1.Node{} },
	"Event":                 func() runtime.Object { return &corev1.Event{} },
	"Endpoints":             func() runtime.Object { return &corev1.Endpoints{} },
	"PersistentVolumeClaim": func() runtime.Object { return &corev1.PersistentVolumeClaim{} },
	"Role":                  func() runtime.Object { return &rbacv1.Role{} },
	"ClusterRole":           func() runtime.Object { return &rbacv1.ClusterRole{} },
	"RoleBinding":           func() runtime.Object { return &rbacv1.RoleBinding{} },
	"ClusterRoleBinding":    func() runtime.Object { return &rbacv1.ClusterRoleBinding{} },
	"Deployment":            func() runtime.Object { return &appsv1.Deployment{} },
	"StatefulSet":           func() runtime.Object { return &appsv1.StatefulSet{} },
	"DaemonSet":             func() runtime.Object { return &appsv1.DaemonSet{} },
	"ReplicaSet":            func() runtime.Object { return &appsv1.ReplicaSet{} },
	"ControllerRevision":    func() runtime.Object { return &appsv1.ControllerRevision{} },
	"Job":                   func() runtime.Object { return &batchv1.Job{} },
	"CronJob":               func() runtime.Object { return &batchv1.CronJob{} },
}

// schemaTable writes what strategic merge patch reads of the types: a line `K kind type` for each kind; then for each
// struct `T type` and a line `json-name type [patch-strategy [patch-merge-key]]` for each field that JSON has. A type is
// a struct's name or `:kind`, behind any of `*`, `[]` and `{}`.
func schemaTable() string {
	var out strings.Builder
	structs := map[string]reflect.Type{}
	for _, kind := range sortedKinds() {
		t := reflect.TypeOf(objects[kind]()).Elem()
		fmt.Fprintf(&out, "K %s %s\n", kind, spell(t, structs))
	}
	done := map[string]string{}
	for len(done) < len(structs) {
		for name, t := range structs {
			if _, ok := done[name]; !ok {
				done[name] = fields(t, structs)
			}
		}
	}
	var names []string
	for name := range done {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(&out, "T %s\n%s", name, done[name])
	}
	return out.String()
}

// fields lists the members of a struct, embedded structs opened. No type here hides a field of an embedded one.
func fields(t reflect.Type, structs map[string]reflect.Type) string {
	var out strings.Builder
	for i := range t.NumField() {
		field := t.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.PkgPath != "" || field.Tag.Get("json") == "-" {
			continue
		}
		if name == "" && field.Anonymous && field.Type.Kind() == reflect.Struct {
			out.WriteString(fields(field.Type, structs))
			continue
		}
		if name == "" {
			name = field.Name
		}
		fmt.Fprintf(&out, "%s %s", name, spell(field.Type, structs))
		strategy, key := field.Tag.Get("patchStrategy"), field.Tag.Get("patchMergeKey")
		if strategy == "" && key != "" {
			strategy = "-"
		}
		for _, word := range []string{strategy, key} {
			if word != "" {
				out.WriteString(" " + word)
			}
		}
		out.WriteString("\n")
	}
	return out.String()
}

func spell(t reflect.Type, structs map[string]reflect.Type) string {
	switch t.Kind() {
	case reflect.Pointer:
		return "*" + spell(t.Elem(), structs)
	case reflect.Slice:
		return "[]" + spell(t.Elem(), structs)
	case reflect.Map:
		return "{}" + spell(t.Elem(), structs)
	case reflect.Struct:
		path := strings.TrimPrefix(strings.TrimPrefix(t.PkgPath(), "k8s.io/api/"), "k8s.io/apimachinery/pkg/")
		name := path + "." + t.Name()
		structs[name] = t
		return name
	default:
		return ":" + t.Kind().String()
	}
}
