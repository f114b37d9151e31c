// Command cel-oracle answers what kube-apiserver makes of a CEL expression in an AuthenticationConfiguration: one JSON object a
// line in, one a line out. See README.md.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	celgo "github.com/google/cel-go/cel"
	"github.com/google/cel-go/common/types"
	"github.com/google/cel-go/common/types/ref"

	"k8s.io/apimachinery/pkg/util/version"
	authncel "k8s.io/apiserver/pkg/authentication/cel"
	apiservercel "k8s.io/apiserver/pkg/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// question is one line of input.
type question struct {
	ID    int             `json:"id"`
	Env   string          `json:"env"`
	Expr  string          `json:"expr"`
	Vars  json.RawMessage `json:"vars"`
	Tries int             `json:"tries"`
	// Asks for the declarations of all functions, and for nothing else.
	Functions bool `json:"functions"`
}

// outcome is what came of one evaluation, or of the compilation that failed.
type outcome struct {
	Stage  string `json:"stage"`
	Text   string `json:"text,omitempty"`
	First  string `json:"first,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Output string `json:"output,omitempty"`
	Value  string `json:"value,omitempty"`
	Native string `json:"native,omitempty"`
	Cost   uint64 `json:"cost"`
}

type answer struct {
	ID       int       `json:"id"`
	Outcomes []outcome `json:"outcomes"`
	// An overload a line.
	Functions []string `json:"functions,omitempty"`
}

type oracle struct {
	compiler authncel.Compiler
	raw      map[string]*celgo.Env
}

func main() {
	base := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion())
	o := &oracle{compiler: authncel.NewDefaultCompiler(), raw: map[string]*celgo.Env{}}
	o.raw["claims"] = mustExtend(base, "claims", apiservercel.NewMapType(apiservercel.StringType, apiservercel.AnyType, -1))
	o.raw["user"] = mustExtend(base, "user", userType())

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<26)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for lines.Scan() {
		var q question
		if err := json.Unmarshal(lines.Bytes(), &q); err != nil {
			fmt.Fprintf(os.Stderr, "cel-oracle: %v\n", err)
			os.Exit(1)
		}
		reply := answer{ID: q.ID}
		if q.Functions {
			reply.Functions = functions(o.raw[q.Env])
		} else {
			reply.Outcomes = o.answer(q)
		}
		if err := encoder.Encode(reply); err != nil {
			fmt.Fprintf(os.Stderr, "cel-oracle: %v\n", err)
			os.Exit(1)
		}
	}
	out.Flush()
}

// userType declares the same object as the authentication package does, for the environment that only tells errors apart.
func userType() *apiservercel.DeclType {
	texts := apiservercel.NewListType(apiservercel.StringType, -1)
	fields := map[string]*apiservercel.DeclField{}
	for name, kind := range map[string]*apiservercel.DeclType{
		"username": apiservercel.StringType,
		"uid":      apiservercel.StringType,
		"groups":   texts,
		"extra":    apiservercel.NewMapType(apiservercel.StringType, texts, -1),
	} {
		fields[name] = apiservercel.NewDeclField(name, kind, false, nil, nil)
	}
	return apiservercel.NewObjectType("kubernetes.UserInfo", fields)
}

func mustExtend(base *environment.EnvSet, name string, kind *apiservercel.DeclType) *celgo.Env {
	set, err := base.Extend(environment.VersionedOptions{
		IntroducedVersion: version.MajorMinor(1, 0),
		EnvOptions:        []celgo.EnvOption{celgo.Variable(name, kind.CelType())},
		DeclTypes:         []*apiservercel.DeclType{kind},
	})
	if err != nil {
		panic(err)
	}
	return set.StoredExpressionsEnv()
}

func (o *oracle) answer(q question) []outcome {
	result, failed := o.compile(q)
	if failed != nil {
		return []outcome{*failed}
	}
	tries := max(q.Tries, 1)
	var outcomes []outcome
	seen := map[outcome]bool{}
	for range tries {
		got := evaluate(result, q)
		if !seen[got] {
			seen[got] = true
			outcomes = append(outcomes, got)
		}
	}
	return outcomes
}

func (o *oracle) compile(q question) (result authncel.CompilationResult, failed *outcome) {
	defer func() {
		if r := recover(); r != nil {
			failed = &outcome{Stage: "crash", Text: fmt.Sprint(r)}
		}
	}()
	expression := &authncel.ClaimMappingExpression{Expression: q.Expr}
	var err error
	if q.Env == "user" {
		result, err = o.compiler.CompileUserExpression(expression)
	} else {
		result, err = o.compiler.CompileClaimsExpression(expression)
	}
	if err == nil {
		return result, nil
	}
	text := err.Error()
	failed = &outcome{Stage: "program", Text: text}
	// Showing issues sorts them: what the parser found first is only told before.
	_, issues := o.raw[q.Env].Parse(q.Expr)
	parsed := issues != nil && len(issues.Errors()) > 0
	if !parsed {
		_, issues = o.raw[q.Env].Compile(q.Expr)
	}
	if issues != nil && len(issues.Errors()) > 0 {
		first := issues.Errors()[0]
		failed.Stage = "compile"
		failed.First = first.Message
		failed.Line = first.Location.Line()
		failed.Column = first.Location.Column()
		if want := "compilation failed: " + issues.String(); want != text {
			failed.Stage = "disagreement"
			failed.Text = text + "\n---\n" + want
		}
	}
	return result, failed
}

type activation struct {
	name  string
	value ref.Val
}

func (a activation) ResolveName(name string) (any, bool) {
	if name != a.name {
		return nil, false
	}
	return a.value, true
}

func (a activation) Parent() celgo.Activation { return nil }

func evaluate(result authncel.CompilationResult, q question) outcome {
	var root ref.Val
	var err error
	if q.Env == "user" {
		root, err = userValue(q.Vars)
	} else {
		root, err = claimsValue(q.Vars)
	}
	if err != nil {
		return outcome{Stage: "vars", Text: err.Error()}
	}
	value, details, err := result.Program.ContextEval(context.Background(), activation{name: q.Env, value: root})
	got := outcome{Stage: "value", Output: result.AST.OutputType().String()}
	if details != nil && details.ActualCost() != nil {
		got.Cost = *details.ActualCost()
	}
	if err != nil {
		got.Stage = "error"
		got.Text = strings.ReplaceAll(strings.ReplaceAll(err.Error(), "*main.openMap", "*oidc.unescapeMapper"), "*main.openList", "*oidc.unescapeLister")
		return got
	}
	got.Value = encode(value)
	if value.Type() == types.ListType {
		got.Native = fmt.Sprintf("%T", value.Value())
	}
	return got
}
