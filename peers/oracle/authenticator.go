package main

import (
	"context"
	"encoding/json"
	"fmt"

	goidc "github.com/coreos/go-oidc"
	jose "gopkg.in/go-jose/go-jose.v2"

	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	tokenunion "k8s.io/apiserver/pkg/authentication/token/union"
	"k8s.io/apiserver/plugin/pkg/authenticator/token/oidc"
)

// keySet verifies as go-oidc's remote key set does with keys that it has fetched.
type keySet struct{ keys []jose.JSONWebKey }

var _ goidc.KeySet = &keySet{}

func (s *keySet) VerifySignature(_ context.Context, jwt string) ([]byte, error) {
	jws, err := jose.ParseSigned(jwt)
	if err != nil {
		return nil, fmt.Errorf("oidc: malformed jwt: %v", err)
	}
	kid := jws.Signatures[0].Header.KeyID
	for _, k := range s.keys {
		if kid == "" || k.KeyID == kid {
			if p, err := jws.Verify(&k); err == nil {
				return p, nil
			}
		}
	}
	return nil, fmt.Errorf("failed to verify id token signature")
}

// keySets are the keys of each authenticator, in order.
func keySets(config *apiserver.AuthenticationConfiguration, q *question) ([]*keySet, error) {
	sets := make([]*keySet, 0, len(config.JWT))
	var shared *keySet
	for _, jwt := range config.JWT {
		raw, own := q.IssuerJWKS[jwt.Issuer.URL]
		if !own {
			raw = q.JWKS
		}
		if !own && shared != nil {
			sets = append(sets, shared)
			continue
		}
		var set jose.JSONWebKeySet
		if err := json.Unmarshal(raw, &set); err != nil {
			return nil, err
		}
		keys := &keySet{set.Keys}
		if !own {
			shared = keys
		}
		sets = append(sets, keys)
	}
	return sets, nil
}

type caContent string

func (c caContent) CurrentCABundleContent() []byte { return []byte(c) }

// newAuthenticator is newJWTAuthenticator of k8s.io/kubernetes/pkg/kubeapiserver/authenticator for a server without
// --egress-selector-config-file, with keys given.
func newAuthenticator(ctx context.Context, config *apiserver.AuthenticationConfiguration, keys []*keySet, algs, disallowed []string) (authenticator.Token, error) {
	var all []authenticator.Token
	for i, jwt := range config.JWT {
		options := oidc.Options{
			JWTAuthenticator:     jwt,
			KeySet:               keys[i],
			SupportedSigningAlgs: algs,
			DisallowedIssuers:    disallowed,
			Compiler:             compiler,
		}
		// The package takes keys or a place to discover them from, and the place has been validated.
		options.JWTAuthenticator.Issuer.DiscoveryURL = ""
		if ca := jwt.Issuer.CertificateAuthority; len(ca) > 0 {
			options.CAContentProvider = caContent(ca)
		}
		one, err := oidc.New(ctx, options)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return tokenunion.NewFailOnError(all...), nil
}
