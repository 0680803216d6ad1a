package sdigateway

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"ceralacca.dev/services/internal/pg/pgtest"
)

var reportNames = flag.Int("report-names", 1_000_000, "file names to allocate")

// BenchmarkNames is part of what `make bench-sdi` shows: names are allocated and each is compared with all before.
func BenchmarkNames(b *testing.B) {
	for range b.N {
		ctx, cancel := context.WithCancel(context.Background())
		source := newNameSource(pgtest.Schema(b, "sdi-gateway"), slog.New(slog.DiscardHandler), "IT", "01234567897")
		done := make(chan error, 1)
		go func() { done <- source.run(ctx) }()
		seen := make(map[string]struct{}, *reportNames)
		begin := time.Now()
		for range *reportNames {
			name, err := source.take(ctx)
			require.NoError(b, err)
			seen[name.Progressivo] = struct{}{}
		}
		took := time.Since(begin)
		cancel()
		require.NoError(b, <-done)
		require.Len(b, seen, *reportNames, "a name was given twice")
		fmt.Printf("%-52s %12.2f %-20s (target %s)\n", fmt.Sprintf("sdi: %d file names allocated, all different", *reportNames), took.Seconds(), "s", "< 60")
	}
}
