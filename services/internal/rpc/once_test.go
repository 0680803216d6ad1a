package rpc_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	tenancyv1 "ceralacca.dev/proto/gen/ceralacca/tenancy/v1"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/pg/pgtest"
	"ceralacca.dev/services/internal/rpc"
)

const requestID = "3f1f8a52-0d4b-4a52-8d42-2f2a9a1f6a10"

// create is a method that uses Once: it counts how often it really acts.
func create(ctx context.Context, db *pg.DB, tenant, id, body string, acted *atomic.Int32, fail error) (*tenancyv1.Tenant, error) {
	req := &tenancyv1.CreateTenantRequest{TenantId: body, RequestId: id}
	resp := &tenancyv1.Tenant{}
	err := db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, "CreateTenant", id, req, resp, func() error {
			n := acted.Add(1)
			if fail != nil {
				return fail
			}
			resp.Name, resp.Etag = "tenants/"+body, strconv.Itoa(int(n))
			return nil
		})
	})
	return resp, err
}

func TestOnce(t *testing.T) {
	db := pgtest.Schema(t, "invoice")
	ctx := t.Context()
	var acted atomic.Int32

	broken := errors.New("broke off")
	_, err := create(ctx, db, "t1", requestID, "a", &acted, broken)
	require.ErrorIs(t, err, broken)
	first, err := create(ctx, db, "t1", requestID, "a", &acted, nil)
	require.NoError(t, err, "a failed attempt leaves no trace")
	require.EqualValues(t, 2, acted.Load())
	again, err := create(ctx, db, "t1", requestID, "a", &acted, nil)
	require.NoError(t, err)
	require.EqualValues(t, 2, acted.Load(), "the act is not repeated")
	require.Equal(t, first.GetEtag(), again.GetEtag(), "the first answer comes back")

	_, err = create(ctx, db, "t1", requestID, "b", &acted, nil)
	require.Equal(t, "REQUEST_ID_REUSED", fault.Of(err).Code)
	require.Equal(t, fault.KindConflict, fault.Of(err).Kind)
	require.Equal(t, "request_id", fault.Of(err).Fields[0].Path)

	_, err = create(ctx, db, "t2", requestID, "b", &acted, nil)
	require.NoError(t, err, "another tenant may use the same id")
	for range 2 {
		_, err = create(ctx, db, "t1", "", "a", &acted, nil)
		require.NoError(t, err)
	}
	require.EqualValues(t, 5, acted.Load(), "without an id every call acts")
}

// TestOnceAtOnce: the same request from many connections acts once, and all of
// them get its answer.
func TestOnceAtOnce(t *testing.T) {
	db := pgtest.Schema(t, "invoice")
	var acted atomic.Int32
	var wg sync.WaitGroup
	answers, errs := make([]string, 8), make([]error, 8)
	for i := range errs {
		wg.Go(func() {
			resp, err := create(t.Context(), db, "t1", requestID, "a", &acted, nil)
			answers[i], errs[i] = resp.GetName()+resp.GetEtag(), err
		})
	}
	wg.Wait()
	for i := range errs {
		require.NoError(t, errs[i])
		require.Equal(t, "tenants/a1", answers[i])
	}
	require.EqualValues(t, 1, acted.Load())
}

// TestOnceEmptyAnswer: an empty response is an answer too.
func TestOnceEmptyAnswer(t *testing.T) {
	db := pgtest.Schema(t, "invoice")
	acted := 0
	for range 2 {
		resp := &tenancyv1.Tenant{Name: "left over"}
		err := db.Tx(t.Context(), "t1", func(ctx context.Context, tx pgx.Tx) error {
			return rpc.Once(ctx, tx, "Drop", requestID, &tenancyv1.Tenant{}, resp, func() error {
				acted++
				resp.Reset()
				return nil
			})
		})
		require.NoError(t, err)
		require.Empty(t, resp.GetName())
	}
	require.Equal(t, 1, acted)
}
