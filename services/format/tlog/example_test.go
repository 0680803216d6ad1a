package tlog_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"ceralacca.dev/services/format/tlog"
	"ceralacca.dev/services/format/tlog/tlogtest"
)

// A fact of a tenant goes into the log; the tenant gets a receipt, and checks it without us.
func Example() {
	ctx := context.Background()
	store := &tlogtest.Memory{} // in production a write-once store with replicas
	key, err := tlog.NewSigner("registro.example/2026", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))
	if err != nil {
		panic(err)
	}
	log, err := tlog.Open(ctx, store, tlog.EmptyTree())
	if err != nil {
		panic(err)
	}

	tail := tlog.Tail{Tenant: tlog.TenantTag([]byte("the tenant's own key"), "tenant 7")}
	leaf, err := tail.Next("pda", time.Date(2026, 11, 21, 9, 0, 0, 0, time.UTC), []tlog.Hash{sha256.Sum256([]byte("the package"))}, "")
	if err != nil {
		panic(err)
	}
	entry, err := leaf.Marshal()
	if err != nil {
		panic(err)
	}
	index, err := log.Append(ctx, entry)
	if err != nil {
		panic(err)
	}
	tree, err := log.Commit(ctx)
	if err != nil {
		panic(err)
	}
	checkpoint, err := tlog.Checkpoint{Origin: "registro.example/2026", Tree: tree}.Sign(key)
	if err != nil {
		panic(err)
	}
	proof, err := tlog.Inclusion(ctx, store, tree, index)
	if err != nil {
		panic(err)
	}
	receipt := tlog.Receipt{Index: index, Proof: proof, Checkpoint: checkpoint, Entry: entry}

	policy := tlog.Policy{Origin: "registro.example/2026", LogKeys: []*tlog.Verifier{&key.Verifier}}
	evidence, err := receipt.Verify(nil, policy, tlog.StampPolicy{})
	fmt.Println(evidence.Entry.Index, evidence.Checkpoint.Size, err)

	_, err = receipt.Verify([]byte("another fact"), policy, tlog.StampPolicy{})
	fmt.Println(errors.Is(err, tlog.ErrProof))
	// Output:
	// 0 1 <nil>
	// true
}
