package conservation

import (
	"bytes"
	"context"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/fault"
)

// inspections answers InspectionService, the inspector's side. Every method admits the caller first, and writes down what it
// shows before it shows it, and what it refuses. Only the question whether a package is ready yet, which is asked again and again and
// shows nothing, is not written down.
type inspections struct {
	conservationv1.UnimplementedInspectionServiceServer

	s *Service
}

// GetInspection tells what the token stands for.
func (a inspections) GetInspection(ctx context.Context, _ *conservationv1.GetInspectionRequest) (*conservationv1.Inspector, error) {
	ctx, v, err := a.s.admitInspector(ctx)
	if err == nil {
		err = v.note(ctx, "grant", "tenants/"+v.who.TenantID, "")
	}
	if err != nil {
		return nil, err
	}
	return v.grant, nil
}

// InspectDocuments finds documents within the filter.
func (a inspections) InspectDocuments(ctx context.Context, req *conservationv1.InspectDocumentsRequest) (*conservationv1.SearchDocumentsResponse, error) {
	ctx, v, err := a.s.admitInspector(ctx)
	if err != nil {
		return nil, err
	}
	q, err := v.within(req.GetQuery())
	if err != nil {
		return nil, v.refuse(ctx, "tenants/"+v.who.TenantID, err)
	}
	asked := "" // for all that may be seen
	if req.GetQuery() != nil {
		asked = protojson.Format(req.GetQuery())
	}
	err = v.note(ctx, "search", "tenants/"+v.who.TenantID, asked)
	if err != nil {
		return nil, err
	}
	return a.s.search(ctx, v.who.TenantID, q, req.GetQuery(), req.GetPageSize(), req.GetPageToken())
}

func (v *visit) within(m *conservationv1.SearchQuery) (query, error) {
	q, err := readQuery(m)
	if err != nil {
		return nil, err
	}
	return q.and(v.filter)
}

// InspectFile streams one file of a unit.
func (a inspections) InspectFile(req *conservationv1.InspectFileRequest, stream grpc.ServerStreamingServer[conservationv1.InspectFileResponse]) error {
	ctx, v, err := a.s.admitInspector(stream.Context())
	if err != nil {
		return err
	}
	id, err := v.unit(ctx, req.GetUnit())
	if err != nil {
		return v.refuse(ctx, req.GetUnit(), err)
	}
	list, err := a.s.stories(ctx, v.who.TenantID, []uuid.UUID{id})
	if err != nil {
		return err
	}
	files := list[0].files
	for _, m := range list[0].later {
		files = append(files, m.files...)
	}
	if int(req.GetOrdinal()) >= len(files) {
		return v.refuse(ctx, req.GetUnit(), fault.NotFound("FILE_NOT_FOUND", "unit %s has %d files", req.GetUnit(), len(files)))
	}
	f := files[req.GetOrdinal()]
	err = v.note(ctx, "view", req.GetUnit(), f.FileName)
	if err != nil {
		return err
	}
	c := cabinet{s: a.s}
	raw, err := c.file(ctx, f)
	if err != nil {
		return err
	}
	err = stream.Send(&conservationv1.InspectFileResponse{File: unitMessage(list[0].unit, []db.UnitFile{f}).GetFiles()[0]})
	if err != nil {
		return err
	}
	return chunks(bytes.NewReader(raw), func(part []byte) error { return stream.Send(&conservationv1.InspectFileResponse{Chunk: part}) })
}

// InspectIntegrity verifies a document now.
func (a inspections) InspectIntegrity(ctx context.Context, req *conservationv1.InspectIntegrityRequest) (*conservationv1.IntegrityReport, error) {
	ctx, v, err := a.s.admitInspector(ctx)
	if err != nil {
		return nil, err
	}
	id, err := v.unit(ctx, req.GetUnit())
	if err != nil {
		return nil, v.refuse(ctx, req.GetUnit(), err)
	}
	err = v.note(ctx, "integrity", req.GetUnit(), "")
	if err != nil {
		return nil, err
	}
	return a.s.integrity(ctx, v.who.TenantID, id)
}

// CreateInspectionDistribution starts a package of what the inspector asks for, within the filter.
func (a inspections) CreateInspectionDistribution(ctx context.Context, req *conservationv1.CreateInspectionDistributionRequest) (*conservationv1.Distribution, error) {
	ctx, v, err := a.s.admitInspector(ctx)
	if err != nil {
		return nil, err
	}
	order := asked{by: "inspector:" + v.who.ID.String(), inspector: &v.who.ID, purpose: v.who.Body + ", " + v.who.FullName}
	order.query, err = v.within(req.GetQuery())
	if err == nil {
		order.units, err = unitIDs(v.who.TenantID, req.GetUnits())
	}
	if err != nil {
		return nil, v.refuse(ctx, "tenants/"+v.who.TenantID, err)
	}
	err = v.note(ctx, "distribution", "tenants/"+v.who.TenantID, protojson.Format(req))
	if err != nil {
		return nil, err
	}
	var row db.Distribution
	err = a.s.db.Tx(ctx, v.who.TenantID, func(ctx context.Context, tx pgx.Tx) error {
		row, err = a.s.order(ctx, tx, v.who.TenantID, order)
		return err
	})
	if err != nil {
		return nil, v.refuse(ctx, "tenants/"+v.who.TenantID, err)
	}
	return a.s.distributionMessage(row), nil
}

// own gives a distribution that this inspector asked for; any other is not there.
func (v *visit) own(ctx context.Context, name string) (db.Distribution, error) {
	tenant, id, err := parseName("name", name, "distributions", noDistribution(name))
	if err != nil || tenant != v.who.TenantID {
		return db.Distribution{}, noDistribution(name)
	}
	row, err := v.s.distribution(ctx, tenant, id)
	if err == nil && (row.Inspector == nil || *row.Inspector != v.who.ID) {
		err = noDistribution(name)
	}
	return row, err
}

// GetInspectionDistribution reads a package that the inspector asked for.
func (a inspections) GetInspectionDistribution(ctx context.Context, req *conservationv1.GetInspectionDistributionRequest) (*conservationv1.Distribution, error) {
	ctx, v, err := a.s.admitInspector(ctx)
	if err != nil {
		return nil, err
	}
	row, err := v.own(ctx, req.GetName())
	if err != nil {
		return nil, v.refuse(ctx, req.GetName(), err)
	}
	return a.s.distributionMessage(row), nil
}

// DownloadInspectionDistribution streams the ZIP of a package that the inspector asked for.
func (a inspections) DownloadInspectionDistribution(req *conservationv1.DownloadInspectionDistributionRequest, stream grpc.ServerStreamingServer[conservationv1.DownloadDistributionResponse]) error {
	ctx, v, err := a.s.admitInspector(stream.Context())
	if err != nil {
		return err
	}
	row, err := v.own(ctx, req.GetName())
	if err != nil {
		return v.refuse(ctx, req.GetName(), err)
	}
	err = v.note(ctx, "download", req.GetName(), "")
	if err != nil {
		return err
	}
	return a.s.sendDistribution(ctx, row, stream)
}
