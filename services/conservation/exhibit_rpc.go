package conservation

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/auth"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/rpc"
	"ceralacca.dev/services/internal/run"
	"ceralacca.dev/services/internal/telemetry"
)

// exhibition answers ExhibitionService.
type exhibition struct {
	conservationv1.UnimplementedExhibitionServiceServer

	s *Service
}

// wireExhibition is search, packages for those who ask, inspectors and reports on integrity.
func (s *Service) wireExhibition(h *run.Host) {
	conservationv1.RegisterExhibitionServiceServer(h.RPC, exhibition{s: s})
	conservationv1.RegisterInspectorServiceServer(h.RPC, inspectors{s: s})
	conservationv1.RegisterInspectionServiceServer(h.RPC, inspections{s: s})
	h.Go("search", s.catchUp)
	run.Work(h, run.WorkOptions{Queue: "search", Workers: 1, Timeout: checkTime}, s.rebuildSearch)
	run.Work(h, run.WorkOptions{Queue: "exhibit", Workers: 1, Timeout: checkTime}, s.buildDistribution)
}

// tenantOf reads tenants/{tenant}.
func tenantOf(parent string) (string, error) {
	ids, ok := cut(parent, "tenants")
	if !ok {
		return "", fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", parent)
	}
	return ids[0], nil
}

// SearchDocuments finds documents, newest first.
func (a exhibition) SearchDocuments(ctx context.Context, req *conservationv1.SearchDocumentsRequest) (*conservationv1.SearchDocumentsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	q, err := readQuery(req.GetQuery())
	if err != nil {
		return nil, err
	}
	return a.s.search(ctx, tenant, q, req.GetQuery(), req.GetPageSize(), req.GetPageToken())
}

// search answers a page. asked is the query as it came: a token goes on with that one only.
func (s *Service) search(ctx context.Context, tenant string, q query, asked *conservationv1.SearchQuery, pageSizeAsked int32, token string) (*conservationv1.SearchDocumentsResponse, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(asked)
	if err != nil {
		return nil, fault.Internal("SEARCH_QUERY", "query: %v", err)
	}
	filter, size := pg.FilterHash("documents", tenant, hex.EncodeToString(raw)), pageSize(pageSizeAsked)
	var after place
	found, err := pg.DecodePageToken(token, filter, &after.Issued, &after.Unit, &after.Body)
	if err != nil {
		return nil, err
	}
	behind := &after
	if !found {
		behind = nil
	}
	resp := &conservationv1.SearchDocumentsResponse{}
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		places, err := find(ctx, tx, tenant, q, behind, size+1)
		if err != nil {
			return err
		}
		places, resp.NextPageToken, err = pg.Page(places, size, filter, func(p place) []any { return []any{p.Issued, p.Unit, p.Body} })
		if err != nil {
			return err
		}
		resp.Documents, err = show(ctx, tx, tenant, places)
		if err == nil && behind == nil {
			resp.Destroyed, err = destroyed(ctx, tx, tenant, q)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// RebuildSearch plans the job that makes the search again.
func (a exhibition) RebuildSearch(ctx context.Context, req *conservationv1.RebuildSearchRequest) (*conservationv1.RebuildSearchResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	if a.s.replicas == nil {
		return nil, errStorageOff()
	}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		err := telemetry.Audit(ctx, tx, telemetry.Act{Action: "search.rebuild", Resource: req.GetParent()})
		if err != nil {
			return err
		}
		return a.s.askSearch(ctx, tx, tenant)
	})
	if err != nil {
		return nil, err
	}
	return &conservationv1.RebuildSearchResponse{}, nil
}

// CreateDistribution fixes what goes in and starts the building. The same request_id gives the same distribution.
func (a exhibition) CreateDistribution(ctx context.Context, req *conservationv1.CreateDistributionRequest) (*conservationv1.Distribution, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	if len(req.GetUnits()) > 0 && len(req.GetQuery().GetAnyOf()) > 0 {
		return nil, fault.Invalid("DISTRIBUTION_AMBIGUOUS", "units: give them or a query, not both")
	}
	order := asked{purpose: req.GetPurpose(), by: actor(ctx)}
	order.query, err = readQuery(req.GetQuery())
	if err != nil {
		return nil, err
	}
	order.units, err = unitIDs(tenant, req.GetUnits())
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.Distribution{}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		return rpc.Once(ctx, tx, conservationv1.ExhibitionService_CreateDistribution_FullMethodName, req.GetRequestId(), req, resp, func() error {
			row, err := a.s.order(ctx, tx, tenant, order)
			if err == nil {
				proto.Merge(resp, a.s.distributionMessage(row))
			}
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func actor(ctx context.Context) string {
	if caller, ok := auth.From(ctx); ok {
		return caller.Actor()
	}
	return "nobody"
}

// unitIDs reads resource names of units of one tenant.
func unitIDs(tenant string, names []string) ([]uuid.UUID, error) {
	var ids []uuid.UUID
	for i, name := range names {
		of, id, err := parseName(fmt.Sprintf("units[%d]", i), name, "units", noUnit(name))
		if err != nil {
			return nil, err
		}
		if of != tenant {
			return nil, noUnit(name)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// GetDistribution reads a distribution.
func (a exhibition) GetDistribution(ctx context.Context, req *conservationv1.GetDistributionRequest) (*conservationv1.Distribution, error) {
	tenant, id, err := parseName("name", req.GetName(), "distributions", noDistribution(req.GetName()))
	if err != nil {
		return nil, err
	}
	row, err := a.s.distribution(ctx, tenant, id)
	if err != nil {
		return nil, err
	}
	return a.s.distributionMessage(row), nil
}

// ListDistributions lists a tenant's distributions, newest first.
func (a exhibition) ListDistributions(ctx context.Context, req *conservationv1.ListDistributionsRequest) (*conservationv1.ListDistributionsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	size, before, filter := pageSize(req.GetPageSize()), lastID, pg.FilterHash("distributions", tenant)
	_, err = pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.Distribution
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListDistributions(ctx, db.ListDistributionsParams{TenantID: tenant, Before: before, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListDistributionsResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Distribution) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, row := range rows {
		resp.Distributions = append(resp.Distributions, a.s.distributionMessage(row))
	}
	return resp, nil
}

// DownloadDistribution streams the ZIP. The store verifies the hash while it is read.
func (a exhibition) DownloadDistribution(req *conservationv1.DownloadDistributionRequest, stream grpc.ServerStreamingServer[conservationv1.DownloadDistributionResponse]) error {
	tenant, id, err := parseName("name", req.GetName(), "distributions", noDistribution(req.GetName()))
	if err != nil {
		return err
	}
	row, err := a.s.distribution(stream.Context(), tenant, id)
	if err != nil {
		return err
	}
	return a.s.sendDistribution(stream.Context(), row, stream)
}

func (s *Service) sendDistribution(ctx context.Context, row db.Distribution, stream grpc.ServerStreamingServer[conservationv1.DownloadDistributionResponse]) error {
	if row.State == "EXPIRED" {
		return fault.Precondition("DISTRIBUTION_EXPIRED", "the distribution was kept until its term ended (distributions.keep): its documents are in the archive, ask for another one with CreateDistribution")
	}
	if row.State != "READY" {
		return fault.Precondition("DISTRIBUTION_NOT_READY", "the distribution is %s: follow it with GetDistribution", row.State)
	}
	r, err := s.blobs.Open(ctx, refOf(row.TenantID, row.Sha256, row.Size))
	if err != nil {
		return err
	}
	defer r.Close()
	return chunks(r, func(part []byte) error { return stream.Send(&conservationv1.DownloadDistributionResponse{Chunk: part}) })
}

// chunks sends what r gives to its end.
func chunks(r io.Reader, send func([]byte) error) error {
	buf := make([]byte, chunkSize)
	for {
		n, err := io.ReadFull(r, buf)
		if n > 0 {
			sendErr := send(buf[:n])
			if sendErr != nil {
				return fmt.Errorf("conservation: send: %w", sendErr)
			}
		}
		switch {
		case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// GetIntegrityReport verifies a document now.
func (a exhibition) GetIntegrityReport(ctx context.Context, req *conservationv1.GetIntegrityReportRequest) (*conservationv1.IntegrityReport, error) {
	tenant, id, err := parseName("name", req.GetName(), "units", noUnit(req.GetName()))
	if err != nil {
		return nil, err
	}
	return a.s.integrity(ctx, tenant, id)
}
