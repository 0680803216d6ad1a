package run

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadyzWhileItChanges: /readyz is asked while a process waits for what it needs and reaches it. Its answer is what was so at one
// moment, whatever comes while it is written.
func TestReadyzWhileItChanges(t *testing.T) {
	t.Parallel()
	p := &process{}
	for i := range 50 {
		p.status.waiting(fmt.Sprint("server ", i), errors.New("no answer yet"))
	}
	_, body := p.snapshot("")
	var changes sync.WaitGroup
	changes.Go(func() {
		for range 2000 {
			p.status.reached("server 7")
			p.status.waiting("server 7", errors.New("no answer yet"))
		}
	})
	changes.Go(func() {
		for range 200 {
			_, other := p.snapshot("")
			if _, err := json.Marshal(other); err != nil {
				t.Error(err)
			}
		}
	})
	changes.Wait()
	p.status.reached("server 9")
	require.Contains(t, body["waiting_for"], "server 9", "what was said stays as it was")
}
