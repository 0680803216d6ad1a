// Command protodeps writes the .proto sources of the third-party contracts that ours import
// (google.api annotations and protovalidate) into a folder for buf, printed from the descriptors
// compiled into the pinned Go modules. So neither a schema registry nor vendored copies are needed,
// and the sources that buf lints against are those that the generated code links.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	_ "buf.build/gen/go/bufbuild/protovalidate/protocolbuffers/go/buf/validate"
	"github.com/jhump/protoreflect/v2/protoprint"
	_ "google.golang.org/genproto/googleapis/api/annotations"
	"google.golang.org/protobuf/reflect/protoregistry"
)

var files = []string{
	"buf/validate/validate.proto",
	"google/api/field_behavior.proto",
	"google/api/resource.proto",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: protodeps DIR")
		os.Exit(2)
	}
	for _, f := range files {
		err := write(os.Args[1], f)
		if err != nil {
			fmt.Fprintf(os.Stderr, "protodeps: %s: %v\n", f, err)
			os.Exit(1)
		}
	}
}

func write(dir, name string) error {
	desc, err := protoregistry.GlobalFiles.FindFileByPath(name)
	if err != nil {
		return err
	}
	out := filepath.Join(dir, filepath.FromSlash(name))
	err = os.MkdirAll(filepath.Dir(out), 0o755)
	if err != nil {
		return err
	}
	f, err := os.Create(out)
	if err != nil {
		return err
	}
	err = (&protoprint.Printer{}).PrintProtoFile(desc, f)
	return errors.Join(err, f.Close())
}
