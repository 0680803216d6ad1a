package catalog_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	// Those whose packages hold no event.
	_ "ceralacca.dev/proto/gen/ceralacca/operations/v1"
	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
)

const suspensionFile = "testdata/suspension.txt"

// TestSuspension: what each method does for a suspended tenant or reseller is decided one by one and read here. A new
// method without a word in its .proto is refused then, and appears in the list as such.
func TestSuspension(t *testing.T) {
	var lines []string
	methods(func(m protoreflect.MethodDescriptor, access *tenancyv1.Access) {
		scope := access.GetScope()
		bound := (scope != "" || access.GetReseller()) && !access.GetPublic()
		switch {
		case !bound && access.GetWhileSuspended():
			t.Errorf("%s: while_suspended means nothing where neither tenants nor resellers call: take it out", m.FullName())
		case bound && strings.HasSuffix(scope, ".read") && !access.GetWhileSuspended():
			t.Errorf("%s asks for %s and would be refused to a suspended tenant: reading goes on", m.FullName(), scope)
		}
		what := "refused"
		switch {
		case access.GetPublic():
			what = "public"
		case !bound:
			what = "not theirs"
		case access.GetWhileSuspended():
			what = "goes on"
		}
		if scope == "" && access.GetReseller() {
			scope = "(reseller)"
		}
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%-11s %-60s %s", what, strings.TrimPrefix(string(m.FullName()), "ceralacca."), scope), " "))
	})
	slices.Sort(lines)
	got := "# What each method does while the tenant (or reseller) of the caller is suspended, and the scope it asks for.\n" +
		strings.Join(lines, "\n") + "\n"
	if *update {
		if err := os.WriteFile(suspensionFile, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(suspensionFile)
	if err != nil {
		t.Fatal(err)
	}
	if string(want) == got {
		return
	}
	before := strings.Split(string(want), "\n")
	for _, line := range strings.Split(got, "\n") {
		if !slices.Contains(before, line) {
			t.Errorf("new or changed: %s", line)
		}
	}
	t.Errorf("%s differs: think about each line, then go test -run TestSuspension ./catalog -update in proto", suspensionFile)
}

func methods(visit func(protoreflect.MethodDescriptor, *tenancyv1.Access)) {
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				m := service.Methods().Get(j)
				access, _ := proto.GetExtension(m.Options(), tenancyv1.E_Access).(*tenancyv1.Access)
				if strings.HasPrefix(string(m.FullName()), "ceralacca.") {
					visit(m, access)
				}
			}
		}
		return true
	})
}
