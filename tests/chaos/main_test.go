package chaos

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain runs three scenes at a time however few cores there are: they wait more than they compute.
func TestMain(m *testing.M) {
	flag.Parse()
	err := flag.Set("test.parallel", "3")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	os.Exit(m.Run())
}
