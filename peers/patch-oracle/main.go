// patch-oracle: what kube-apiserver makes of a patch, as a program. JSON lines in, JSON lines out; see README.md.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sort"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	kjson "sigs.k8s.io/json"

	"k8s.io/apimachinery/pkg/util/mergepatch"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"portcullis.dev/peers/patch-oracle/handlers"
)

const (
	// kube-apiserver's maxJSONPatchOperations.
	maxOperations = 10000
	// The default of kube-apiserver's JSONPatchMaxCopyBytes.
	maxCopyBytes = 3 * 1024 * 1024
)

type question struct {
	ID    string `json:"id"`
	Op    string `json:"op"`
	Kind  string `json:"kind"`
	Doc   []byte `json:"doc"`
	Patch []byte `json:"patch"`
	// As under fieldValidation Warn and Strict.
	Report bool `json:"report"`
	// Go walks a map in another order each time; so often the patch is applied anew.
	Tries int `json:"tries"`
}

type outcome struct {
	Class    string   `json:"class"`
	Text     string   `json:"text,omitempty"`
	Result   []byte   `json:"result,omitempty"`
	Left     string   `json:"left,omitempty"`
	Findings []string `json:"findings,omitempty"`
}

type answer struct {
	ID       string    `json:"id"`
	Outcomes []outcome `json:"outcomes,omitempty"`
	Schema   string    `json:"schema,omitempty"`
	BadCase  string    `json:"badcase,omitempty"`
}

func main() {
	jsonpatch.AccumulatedCopySizeLimit = maxCopyBytes
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 1<<26)
	out := json.NewEncoder(os.Stdout)
	for in.Scan() {
		var q question
		var a answer
		if err := json.Unmarshal(in.Bytes(), &q); err != nil {
			a.BadCase = err.Error()
		} else {
			a = reply(q)
		}
		if err := out.Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func reply(q question) answer {
	a := answer{ID: q.ID}
	if q.Op == "schema" {
		a.Schema = schemaTable()
		return a
	}
	seen := map[string]bool{}
	for range max(q.Tries, 1) {
		o := attempt(q)
		key, err := json.Marshal(o)
		if err != nil {
			a.BadCase = err.Error()
			return a
		}
		if !seen[string(key)] {
			seen[string(key)] = true
			a.Outcomes = append(a.Outcomes, o)
		}
	}
	return a
}

func attempt(q question) (o outcome) {
	defer func() {
		if r := recover(); r != nil {
			o = outcome{Class: "crash", Text: fmt.Sprint(r)}
		}
	}()
	if !json.Valid(q.Patch) {
		return outcome{Class: "bad", Text: "invalid JSON patch"}
	}
	switch q.Op {
	case "json":
		return jsonPatch(q)
	case "merge":
		return mergePatch(q)
	case "strategic":
		return strategicPatch(q)
	default:
		return outcome{Class: "unknown op"}
	}
}

func jsonPatch(q question) outcome {
	var findings []string
	if q.Report {
		strict, err := handlers.CheckOperations(q.Patch)
		if err != nil {
			return outcome{Class: "bad", Text: fmt.Sprintf("error decoding patch: %v", err)}
		}
		for _, e := range strict {
			findings = append(findings, fmt.Sprintf("json patch %v", e))
		}
	}
	patch, err := jsonpatch.DecodePatch(q.Patch)
	if err != nil {
		return outcome{Class: "bad", Text: err.Error()}
	}
	if len(patch) > maxOperations {
		return outcome{Class: "large", Text: fmt.Sprintf("The allowed maximum operations in a JSON patch is %d, got %d", maxOperations, len(patch))}
	}
	result, err := patch.Apply(q.Doc)
	if err != nil {
		return outcome{Class: "unprocessable", Text: err.Error()}
	}
	return outcome{Class: "ok", Result: result, Findings: findings}
}

func mergePatch(q question) outcome {
	var findings []string
	if q.Report {
		v := map[string]any{}
		strict, err := kjson.UnmarshalStrict(q.Patch, &v)
		if err != nil {
			return outcome{Class: "bad", Text: fmt.Sprintf("error decoding patch: %v", err)}
		}
		findings = texts(strict)
	}
	result, err := jsonpatch.MergePatch(q.Doc, q.Patch)
	if errors.Is(err, jsonpatch.ErrBadJSONPatch) {
		return outcome{Class: "bad", Text: err.Error()}
	}
	if err != nil {
		return outcome{Class: "failure", Text: err.Error()}
	}
	return outcome{Class: "ok", Result: result, Findings: findings}
}

func strategicPatch(q question) outcome {
	original := map[string]any{}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(q.Doc, &original); err != nil {
		return outcome{Class: "bad document", Text: err.Error()}
	}
	patch := map[string]any{}
	var strict []error
	var err error
	if q.Report {
		strict, err = kjson.UnmarshalStrict(q.Patch, &patch)
	} else {
		err = kjson.UnmarshalCaseSensitivePreserveInts(q.Patch, &patch)
	}
	if err != nil {
		return outcome{Class: "bad", Text: err.Error()}
	}
	object, known := objects[q.Kind]
	if !known {
		return outcome{Class: "unknown kind"}
	}
	merged, err := strategicpatch.StrategicMergeMapPatch(original, patch, object())
	if err != nil {
		return outcome{Class: class(err), Text: err.Error()}
	}
	result, err := json.Marshal(merged)
	if err != nil {
		return outcome{Class: "unwritable", Text: err.Error()}
	}
	return outcome{Class: "ok", Result: result, Left: fmt.Sprintf("%+v", patch), Findings: texts(strict)}
}

// class sorts errors as kube-apiserver's interpretStrategicMergePatchError does.
func class(err error) string {
	switch err {
	case mergepatch.ErrBadJSONDoc, mergepatch.ErrBadPatchFormatForPrimitiveList, mergepatch.ErrBadPatchFormatForRetainKeys,
		mergepatch.ErrBadPatchFormatForSetElementOrderList, mergepatch.ErrUnsupportedStrategicMergePatchFormat:
		return "bad"
	case mergepatch.ErrNoListOfLists, mergepatch.ErrPatchContentNotMatchRetainKeys:
		return "unprocessable"
	default:
		return "failure"
	}
}

func texts(errs []error) []string {
	var all []string
	for _, err := range errs {
		all = append(all, err.Error())
	}
	return all
}

func sortedKinds() []string {
	var kinds []string
	for kind := range objects {
		kinds = append(kinds, kind)
	}
	sort.Strings(kinds)
	return kinds
}
