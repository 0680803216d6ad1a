package conservation

import (
	"context"
	"crypto"
	"io"
	"os"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/format/ers"
	"ceralacca.dev/services/format/tsp"
	"ceralacca.dev/services/internal/fault"
)

// evidence judges the package's evidence record: that it is about these bytes, that each stamp was renewed before
// it ended, and that the first one came before the end of the index's own stamp.
func (j *judge) evidence(ctx context.Context, file *os.File) error {
	record, row, err := j.s.evidence(ctx, j.p.TenantID, j.p.ID, 0)
	switch {
	case err != nil && fault.Of(err).Code == evidenceMissing:
		j.term()
		return nil
	case err != nil && fault.Of(err).Kind == fault.KindUnavailable:
		return err
	case err != nil:
		j.bad("its evidence record cannot be read: %s", fault.Of(err).Message)
		return nil
	}
	whole := ers.Reader(func() (io.ReadCloser, error) { return io.NopCloser(io.NewSectionReader(file, 0, j.o.Size)), nil })
	report, err := record.Verify([]ers.Object{whole}, ers.VerifyOptions{Roots: j.s.roots, At: j.s.now(), Horizon: j.s.cfg.Renewal.horizon()})
	if err != nil {
		j.bad("evidence record %d does not hold: %v", row.Number, err)
		return nil
	}
	token, err := tsp.ParseToken(j.kept[stampFile])
	if err != nil {
		return nil //nolint:nilerr // stamp has said so
	}
	if end, err := j.s.cfg.Renewal.lasts(token, crypto.SHA256); err == nil && report.Since.After(end) {
		j.bad("the index's time stamp ended on %s, and its evidence begins on %s", end.Format(time.DateOnly), report.Since.Format(time.DateOnly))
	}
	return nil
}

// term wants a stamp that can still be verified by itself, where there is no evidence record.
func (j *judge) term() {
	token, err := tsp.ParseToken(j.kept[stampFile])
	if err != nil {
		return // stamp has said so
	}
	end, err := j.s.cfg.Renewal.lasts(token, crypto.SHA256)
	switch {
	case err != nil:
		j.bad("%v", err)
	case j.s.now().After(end):
		j.bad("its time stamp ended on %s and was not renewed", end.Format(time.DateOnly))
	}
}

// GetEvidenceRecord gives the record that keeps a package's time stamp alive.
func (e evidence) GetEvidenceRecord(ctx context.Context, req *conservationv1.GetEvidenceRecordRequest) (*conservationv1.EvidenceRecord, error) {
	tenant, id, err := parseName("name", req.GetName(), "packages", noPackage(req.GetName()))
	if err != nil {
		return nil, err
	}
	if e.s.replicas == nil {
		return nil, errStorageOff()
	}
	raw, row, err := e.s.evidenceBytes(ctx, tenant, id, req.GetNumber())
	if err != nil {
		return nil, err
	}
	return &conservationv1.EvidenceRecord{
		Name: req.GetName(), Number: row.Number, Record: raw, Hash: row.Hash,
		StampTime: timestamppb.New(row.StampedAt), UntilTime: timestamppb.New(row.UntilAt),
	}, nil
}
