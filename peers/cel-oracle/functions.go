package main

import (
	"fmt"
	"slices"
	"strings"

	celgo "github.com/google/cel-go/cel"
)

// functions are the declarations that expressions of an environment can name, an overload a line: function, overload, how it is
// called, and its types. The functions are sorted; their overloads keep their order, which decides between several that fit.
func functions(env *celgo.Env) []string {
	var lines []string
	all := env.Functions()
	names := make([]string, 0, len(all))
	for name, function := range all {
		if !function.IsDeclarationDisabled() {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		for _, overload := range all[name].OverloadDecls() {
			style := "function"
			if overload.IsMemberFunction() {
				style = "member"
			}
			var args []string
			for _, arg := range overload.ArgTypes() {
				args = append(args, arg.String())
			}
			lines = append(lines, fmt.Sprintf("%s %s %s (%s) -> %s", name, overload.ID(), style, strings.Join(args, ", "), overload.ResultType()))
		}
	}
	return lines
}
