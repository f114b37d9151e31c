package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"
	"github.com/google/cel-go/common/types/traits"

	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/lazy"
)

// The authenticator hands claims over as a map that is read field by field, whose nested maps and lists undo the escapes of
// names (`a__dot__b` finds `a.b`) as long as they are reached by selection. Its types for that are private; these do the same.
type openMap struct{ traits.Mapper }

func (m *openMap) Find(key ref.Val) (ref.Val, bool) {
	if text, ok := key.(types.String); ok {
		if plain, ok := apiservercel.Unescape(string(text)); ok {
			key = types.String(plain)
		}
	}
	value, found := m.Mapper.Find(key)
	return open(value), found
}

type openList struct{ traits.Lister }

func (l *openList) Get(index ref.Val) ref.Val { return open(l.Lister.Get(index)) }

func open(value ref.Val) ref.Val {
	if m, ok := value.(traits.Mapper); ok {
		return &openMap{m}
	}
	if l, ok := value.(traits.Lister); ok {
		return &openList{l}
	}
	return value
}

func object(kind string, fields map[string]any) *lazy.MapValue {
	made := lazy.NewMapValue(types.NewObjectType(kind))
	for name, value := range fields {
		made.Append(name, func(*lazy.MapValue) ref.Val { return open(types.DefaultTypeAdapter.NativeToValue(value)) })
	}
	return made
}

func claimsValue(raw json.RawMessage) (ref.Val, error) {
	fields := map[string]any{}
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	return object("kubernetes.claims", fields), nil
}

func userValue(raw json.RawMessage) (ref.Val, error) {
	var user struct {
		Username string              `json:"username"`
		UID      string              `json:"uid"`
		Groups   []string            `json:"groups"`
		Extra    map[string][]string `json:"extra"`
	}
	if err := json.Unmarshal(raw, &user); err != nil {
		return nil, err
	}
	return object("kubernetes.UserInfo", map[string]any{
		"username": user.Username, "uid": user.UID, "groups": user.Groups, "extra": user.Extra,
	}), nil
}

// encode writes a value so that two that are the same to CEL, and of the same type, have the same text.
func encode(value ref.Val) string {
	switch v := value.(type) {
	case types.Null:
		return "null"
	case types.Bool:
		return strconv.FormatBool(bool(v))
	case types.Int:
		return fmt.Sprintf("int(%d)", int64(v))
	case types.Uint:
		return fmt.Sprintf("uint(%d)", uint64(v))
	case types.Double:
		return "double(" + double(float64(v)) + ")"
	case types.String:
		return quote(string(v))
	case types.Bytes:
		return "bytes(" + hex.EncodeToString(v) + ")"
	case types.Duration:
		return fmt.Sprintf("duration(%d)", v.Nanoseconds())
	case types.Timestamp:
		return "timestamp(" + v.Format(time.RFC3339Nano) + ")"
	case *types.Type:
		return "type(" + v.TypeName() + ")"
	case *types.Optional:
		if v.HasValue() {
			return "optional(" + encode(v.GetValue()) + ")"
		}
		return "optional()"
	case apiservercel.URL:
		return "url(" + quote(v.URL.String()) + ")"
	case apiservercel.IP:
		return "ip(" + v.Addr.String() + ")"
	case apiservercel.CIDR:
		return "cidr(" + v.Prefix.String() + ")"
	case apiservercel.Quantity:
		return quantity(v)
	case *apiservercel.Quantity:
		return quantity(*v)
	case apiservercel.Semver:
		return "semver(" + v.Version.String() + ")"
	case apiservercel.Format:
		return "format(" + v.Name + ")"
	case *lazy.MapValue:
		return "object(" + v.Type().TypeName() + ")"
	case traits.Lister:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			parts = append(parts, encode(it.Next()))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	case traits.Mapper:
		var parts []string
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			found, _ := v.Find(key)
			parts = append(parts, encode(key)+": "+encode(found))
		}
		sort.Strings(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	}
	return fmt.Sprintf("%T", value)
}

func quantity(q apiservercel.Quantity) string {
	copied := q.Quantity.DeepCopy()
	return "quantity(" + copied.AsDec().String() + ")"
}

func double(v float64) string {
	if math.IsNaN(v) {
		return "NaN"
	}
	return strconv.FormatFloat(v, 'e', -1, 64)
}

func quote(text string) string {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(text)
	return strings.TrimSuffix(out.String(), "\n")
}
