// Package handlers holds the one type that kube-apiserver decodes a JSON patch into before it applies it. Go prints a
// type with its package, so the package has the name of kube-apiserver's (k8s.io/apiserver/pkg/endpoints/handlers).
package handlers

import kjson "sigs.k8s.io/json"

type jsonPatchOp struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from"`
	Value any    `json:"value"`
}

// CheckOperations decodes a JSON patch strictly and returns what kube-apiserver would warn about.
func CheckOperations(patch []byte) ([]error, error) {
	var operations []jsonPatchOp
	return kjson.UnmarshalStrict(patch, &operations)
}
