package rpc

import (
	"regexp"
	"strings"
	"testing"

	"buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	_ "ceralacca.dev/proto/catalog" // links all contracts
)

// patternsOf are the patterns of a field, of its items, and of its keys and values.
func patternsOf(rules *validate.FieldRules) []string {
	if rules == nil {
		return nil
	}
	found := []string{rules.GetString().GetPattern(), rules.GetBytes().GetPattern()}
	found = append(found, patternsOf(rules.GetRepeated().GetItems())...)
	found = append(found, patternsOf(rules.GetMap().GetKeys())...)
	return append(found, patternsOf(rules.GetMap().GetValues())...)
}

// TestPatternsInWords: every pattern of the contracts is said in words, with an example that it admits, and no line of
// the table is left from a pattern that is gone.
func TestPatternsInWords(t *testing.T) {
	seen := map[string]protoreflect.FullName{}
	var look func(messages protoreflect.MessageDescriptors)
	look = func(messages protoreflect.MessageDescriptors) {
		for i := range messages.Len() {
			fields := messages.Get(i).Fields()
			for j := range fields.Len() {
				rules, _ := proto.GetExtension(fields.Get(j).Options(), validate.E_Field).(*validate.FieldRules)
				for _, pattern := range patternsOf(rules) {
					if pattern != "" {
						seen[pattern] = fields.Get(j).FullName()
					}
				}
			}
			look(messages.Get(i).Messages())
		}
	}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		if strings.HasPrefix(string(file.Package()), "ceralacca.") {
			look(file.Messages())
		}
		return true
	})
	require.Greater(t, len(seen), 80, "the contracts were not found")
	used := map[string]bool{}
	for pattern, field := range seen {
		a, ok := inWords(pattern)
		if !ok {
			t.Errorf("%s: no words say what %s admits: add them to rule.go", field, pattern)
			continue
		}
		require.Regexp(t, regexp.MustCompile(pattern), a.example, "the example for %s", field)
		require.NotRegexp(t, regexp.MustCompile(`\[\^?[^ ]*\]|\\|\^|\$|\|`), strings.ReplaceAll(a.words, `(/ and \)`, ""), "%s is said in words", field)
		used[pattern] = true
		if inner := optional.FindStringSubmatch(pattern); inner != nil {
			used["^"+inner[1]+"$"] = true
		}
	}
	for pattern := range patterns {
		require.True(t, used[pattern], "no contract has the pattern %s", pattern)
	}
}

// TestNamesInWords: what a caller reads about the commonest kinds of names.
func TestNamesInWords(t *testing.T) {
	for pattern, want := range map[string]string{
		`^tenants/[^/]+$`: "a name of the form tenants/{tenant}",
		`^(tenants/[^/]+/companies/[^/]+/credentials/[^/]+/otpDevices/[^/]+)?$`:      "a name of the form tenants/{tenant}/companies/{company}/credentials/{credential}/otpDevices/{otp_device}, or empty",
		`^(tenants|resellers)/[^/]+$`:                                                "a name of the form tenants/{tenant} or resellers/{reseller}",
		`^(tenants/[^/]+/)?pauses/[^/]+$`:                                            "a name of the form pauses/{pause} or tenants/{tenant}/pauses/{pause}",
		`^(tenants/[^/]+(/companies/[^/]+)?)?$`:                                      "a name of the form tenants/{tenant} or tenants/{tenant}/companies/{company}, or empty",
		`^tenants/[^/]+/companies/[^/]+/look$`:                                       "a name of the form tenants/{tenant}/companies/{company}/look",
		`^(tenants/[^/]+/companies/[^/]+/inboundInvoices/[^/]+|inboundFiles/[^/]+)$`: "a name of the form tenants/{tenant}/companies/{company}/inboundInvoices/{inbound_invoice} or inboundFiles/{inbound_file}",
		`^([a-z][a-z0-9-]{1,38})?$`:                                                  "a lower-case letter, then 1 to 38 lower-case letters, digits and hyphens, or empty",
	} {
		got, ok := inWords(pattern)
		require.True(t, ok, pattern)
		require.Equal(t, want, got.words)
	}
}
