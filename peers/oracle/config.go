package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/apis/apiserver/install"
	"k8s.io/apiserver/pkg/apis/apiserver/validation"
	authncel "k8s.io/apiserver/pkg/authentication/cel"
)

// What kube-apiserver 1.37.2 calls its own scheme, which is a place in its source.
const schemeName = "pkg/kubeapiserver/options/authentication.go:874"

var (
	scheme   = runtime.NewScheme()
	codecs   = serializer.NewCodecFactory(scheme, serializer.EnableStrict)
	compiler = authncel.NewDefaultCompiler()
)

func init() {
	install.Install(scheme)
}

// load is loadAuthenticationConfigFromData of k8s.io/kubernetes/pkg/kubeapiserver/options.
func load(raw json.RawMessage) (*apiserver.AuthenticationConfiguration, error) {
	data := []byte(raw)
	if bytes.HasPrefix(data, []byte(`"`)) {
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return nil, err
		}
		data = []byte(text)
	}
	if len(data) == 0 {
		return nil, errors.New("empty config data")
	}
	decoded, err := runtime.Decode(codecs.UniversalDecoder(), data)
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), strconv.Quote(scheme.Name()), strconv.Quote(schemeName)))
	}
	config, ok := decoded.(*apiserver.AuthenticationConfiguration)
	if !ok {
		return nil, fmt.Errorf("expected AuthenticationConfiguration, got %T", decoded)
	}
	return config, nil
}

// validate does what a start does, and with `initial` what a reload does.
//
// A start validates before it knows the service account issuers: the constructor refuses them then.
func validate(config *apiserver.AuthenticationConfiguration, q *question) error {
	if len(q.Initial) == 0 {
		if err := validation.ValidateAuthenticationConfiguration(compiler, config, nil).ToAggregate(); err != nil {
			return fmt.Errorf("invalid authentication configuration: %w", err)
		}
		return nil
	}
	initial, err := load(q.Initial)
	if err != nil {
		return fmt.Errorf("initial: %w", err)
	}
	errs := validation.ValidateAuthenticationConfiguration(compiler, config, q.Disallowed)
	if !reflect.DeepEqual(initial.Anonymous, config.Anonymous) {
		errs = append(errs, field.Forbidden(field.NewPath("anonymous"), "changed from initial configuration file"))
	}
	if err := errs.ToAggregate(); err != nil {
		return err
	}
	return nil
}
