package conservation

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
	"ceralacca.dev/services/internal/telemetry"
)

func disposalName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/disposals/" + id.String()
}

func noDisposal(name string) *fault.Fault {
	return fault.NotFound("DISPOSAL_NOT_FOUND", "there is no disposal %s", name)
}

// authorisation is who authorised and by what deed, as the row keeps it. The deed's bytes are an object of the archive.
type authorisation struct {
	Person    string `json:"person"`
	Reference string `json:"reference"`
	Date      string `json:"date"`
	DeedName  string `json:"deed_name,omitempty"`
	DeedSum   string `json:"deed_sha256,omitempty"`
	DeedKey   string `json:"deed_key,omitempty"`
	DeedSigns string `json:"deed_signature,omitempty"` // what was judged of its signature
}

// disposalOf locks a disposal and hands it to fn; the answer is how it stands afterwards.
func (a retention) disposalOf(ctx context.Context, name string, fn func(ctx context.Context, tx pgx.Tx, q *db.Queries, d db.Disposal) error) (*conservationv1.Disposal, error) {
	tenant, id, err := parseName("name", name, "disposals", noDisposal(name))
	if err != nil {
		return nil, err
	}
	var m *conservationv1.Disposal
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := a.s.bearings.mayBegin(ctx, q)
		if err == nil {
			err = q.LockDisposals(ctx, tenant)
		}
		if err != nil {
			return err
		}
		d, err := q.LockDisposal(ctx, db.LockDisposalParams{ID: id, TenantID: tenant})
		if errors.Is(err, pgx.ErrNoRows) {
			return noDisposal(name)
		}
		if err == nil {
			err = fn(ctx, tx, q, d)
		}
		if err == nil {
			m, err = readDisposal(ctx, q, tenant, id)
		}
		return err
	})
	return m, err
}

func readDisposal(ctx context.Context, q *db.Queries, tenant string, id uuid.UUID) (*conservationv1.Disposal, error) {
	d, err := q.GetDisposal(ctx, db.GetDisposalParams{ID: id, TenantID: tenant})
	if err != nil {
		return nil, err
	}
	items, err := q.DisposalItems(ctx, id)
	if err != nil {
		return nil, err
	}
	return disposalMessage(d, items)
}

func disposalMessage(d db.Disposal, items []db.DisposalItemsRow) (*conservationv1.Disposal, error) {
	m := &conservationv1.Disposal{
		Name: disposalName(d.TenantID, d.ID), State: conservationv1.DisposalState(conservationv1.DisposalState_value["DISPOSAL_STATE_"+d.State]), ProposedBy: d.ProposedBy,
		CreateTime: timestamppb.New(d.ProposedAt), NeedsSoprintendenza: d.NeedsAuthority, EndTime: timeMessage(d.EndedAt), LastError: d.LastError, CompletedBy: d.CompletedBy, Completion: d.Completion,
	}
	for _, x := range []struct {
		raw  []byte
		into **conservationv1.DisposalAuthority
	}{{d.Producer, &m.Producer}, {d.Soprintendenza, &m.Soprintendenza}} {
		if x.raw == nil {
			continue
		}
		var z authorisation
		err := json.Unmarshal(x.raw, &z)
		if err != nil {
			return nil, fmt.Errorf("conservation: authorisation of disposal %s: %w", d.ID, err)
		}
		*x.into = &conservationv1.DisposalAuthority{Person: z.Person, Reference: z.Reference, Date: z.Date, DeedName: z.DeedName}
	}
	for _, by := range [][2]string{{d.FirstBy, d.FirstPerson}, {d.SecondBy, d.SecondPerson}} {
		if by[0] != "" {
			m.ReleasedBy = append(m.ReleasedBy, by[1]+" ("+by[0]+")")
		}
	}
	for _, i := range items {
		m.Items = append(m.Items, &conservationv1.DisposalItem{
			Package: packageName(d.TenantID, i.PackageID), FiscalYear: i.FiscalYear, Class: i.Class, UnitCount: i.UnitCount, Sha256: i.Sha256, RetainedUntil: timestamppb.New(i.RetainedUntil),
			State: conservationv1.DisposalItemState(conservationv1.DisposalItemState_value["DISPOSAL_ITEM_STATE_"+i.State]), Note: i.Note,
		})
	}
	return m, nil
}

// ProposeDisposal lists what may be destroyed: packages whose term is over, that nothing holds, and that are on no other list.
// spec: LG-AgID §4.12
func (a retention) ProposeDisposal(ctx context.Context, req *conservationv1.ProposeDisposalRequest) (*conservationv1.Disposal, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	if a.s.replicas == nil {
		return nil, errStorageOff()
	}
	id, err := pg.NewID()
	if err != nil {
		return nil, err
	}
	now := pg.Time(a.s.now())
	var m *conservationv1.Disposal
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		err := a.s.bearings.mayBegin(ctx, q)
		if err == nil {
			err = q.LockDisposals(ctx, tenant)
		}
		if err != nil {
			return err
		}
		due, err := q.DisposablePackages(ctx, db.DisposablePackagesParams{TenantID: tenant, Now: now, FiscalYear: req.GetFiscalYear(), Class: req.GetClass()})
		if err != nil {
			return fmt.Errorf("conservation: packages to dispose of: %w", err)
		}
		err = q.InsertDisposal(ctx, db.InsertDisposalParams{ID: id, TenantID: tenant, NeedsAuthority: req.GetPublicBody(), ProposedBy: actor(ctx), ProposedAt: now})
		if err != nil {
			return err
		}
		listed := 0
		for _, p := range due {
			held, err := q.HoldOver(ctx, db.HoldOverParams{TenantID: tenant, Package: p.ID})
			if err != nil {
				return err
			}
			if len(held) > 0 {
				continue
			}
			listed++
			err = q.InsertDisposalItem(ctx, db.InsertDisposalItemParams{Disposal: id, Package: p.ID, TenantID: tenant, RetainedUntil: retainedUntil(p), Sha256: p.ArchiveSha256, UnitCount: p.UnitCount})
			if err != nil {
				return err
			}
		}
		if listed == 0 {
			if len(due) == 0 {
				return fault.Precondition("DISPOSAL_EMPTY", "no package may be destroyed: none that was asked for has reached the end of its term (ceralacca conserve retention)")
			}
			return fault.Precondition("DISPOSAL_EMPTY", "no package may be destroyed: %d have reached the end of their term, and all of those are held, or on another list (ceralacca conserve hold ls, scarto ls)", len(due))
		}
		err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "disposal.propose", Resource: disposalName(tenant, id), Detail: map[string]string{"packages": strconv.Itoa(listed)}})
		if err != nil {
			return err
		}
		m, err = readDisposal(ctx, q, tenant, id)
		return err
	})
	return m, err
}

func wrongState(d db.Disposal, want string) error {
	return fault.Precondition("DISPOSAL_STATE", "%s is %s: that is done when it is %s", disposalName(d.TenantID, d.ID), d.State, want)
}

// AuthorizeDisposal notes the producer's authorisation. What it does not name is kept.
func (a retention) AuthorizeDisposal(ctx context.Context, req *conservationv1.AuthorizeDisposalRequest) (*conservationv1.Disposal, error) {
	tenant, id, err := parseName("name", req.GetName(), "disposals", noDisposal(req.GetName()))
	if err != nil {
		return nil, err
	}
	if a.s.replicas == nil {
		return nil, errStorageOff()
	}
	producer, deeds, err := a.deed(ctx, tenant, id, "producer", req.GetProducer())
	if err != nil {
		return nil, err
	}
	soprintendenza, more, err := a.deed(ctx, tenant, id, "soprintendenza", req.GetSoprintendenza())
	if err != nil {
		return nil, err
	}
	deeds = append(deeds, more...)
	only, err := packageIDs(tenant, req.GetPackages())
	if err != nil {
		return nil, err
	}
	at := pg.Time(a.s.now())
	return a.disposalOf(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, q *db.Queries, d db.Disposal) error {
		if d.State != "PROPOSED" {
			return wrongState(d, "PROPOSED")
		}
		if d.NeedsAuthority && soprintendenza == nil {
			return fault.Invalid("AUTHORITY_MISSING", "soprintendenza: the documents of a public body, and archives of historic interest, need the Soprintendenza's authorisation").
				WithField("soprintendenza", "AUTHORITY_MISSING", "is needed")
		}
		err := a.authorizeItems(ctx, q, d, only)
		if err == nil {
			err = a.s.replicas.record(ctx, tx, tenant, deeds)
		}
		if err == nil {
			err = q.AuthorizeDisposal(ctx, db.AuthorizeDisposalParams{ID: id, Producer: producer, Soprintendenza: soprintendenza, AuthorizedBy: actor(ctx), At: &at})
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "disposal.authorize", Resource: req.GetName(), Detail: map[string]string{"person": req.GetProducer().GetPerson(), "reference": req.GetProducer().GetReference()}})
	})
}

func packageIDs(tenant string, names []string) (map[uuid.UUID]bool, error) {
	ids := map[uuid.UUID]bool{}
	for i, name := range names {
		of, id, err := parseName(fmt.Sprintf("packages[%d]", i), name, "packages", noPackage(name))
		if err != nil {
			return nil, err
		}
		if of != tenant {
			return nil, noPackage(name)
		}
		ids[id] = true
	}
	return ids, nil
}

func (a retention) authorizeItems(ctx context.Context, q *db.Queries, d db.Disposal, only map[uuid.UUID]bool) error {
	items, err := q.DisposalItems(ctx, d.ID)
	if err != nil {
		return err
	}
	left := len(only)
	for _, i := range items {
		state, note := "AUTHORIZED", ""
		switch {
		case len(only) == 0:
		case only[i.PackageID]:
			left--
		default:
			state, note = "KEPT", "not authorised"
		}
		_, err = q.SetDisposalItem(ctx, db.SetDisposalItemParams{Disposal: d.ID, Package: i.PackageID, State: state, Note: note, FromStates: []string{"LISTED"}})
		if err != nil {
			return err
		}
	}
	if left != 0 {
		return fault.Invalid("NOT_ON_THE_LIST", "packages: %d of those that are authorised are not on the list of %s", left, disposalName(d.TenantID, d.ID))
	}
	return nil
}

// deed reads an authorisation and keeps its signed deed in the replicas, where the report will name it.
func (a retention) deed(ctx context.Context, tenant string, disposal uuid.UUID, field string, m *conservationv1.DisposalAuthority) ([]byte, []*object, error) {
	if m == nil {
		return nil, nil, nil
	}
	z := authorisation{Person: strings.TrimSpace(m.GetPerson()), Reference: m.GetReference(), Date: m.GetDate()}
	day, err := time.Parse(time.DateOnly, m.GetDate())
	if err != nil || day.After(a.s.now().Add(aDay)) {
		return nil, nil, fault.Invalid("AUTHORITY_DATE", "%s.date: %q is no date up to today", field, m.GetDate()).WithField(field+".date", "AUTHORITY_DATE", "no date up to today")
	}
	var kept []*object
	if raw := m.GetDeed(); len(raw) > 0 {
		z.DeedSigns, err = a.s.checkDeed(ctx, field, raw)
		if err != nil {
			return nil, nil, err
		}
		sum := sha256.Sum256(raw)
		ending := extension(m.GetDeedName())
		o := &object{
			id: uuid.NewSHA1(disposal, append([]byte(field), sum[:]...)), kind: kindReport, retain: a.s.now().UTC().AddDate(retentionYears+1, 0, 0),
			Object: vault.Object{Key: fmt.Sprintf("tenants/%s/disposals/%s-%s-%x%s", tenant, disposal, field, sum[:4], ending), Size: int64(len(raw)), SHA256: sum},
		}
		a.s.replicas.place(o)
		err = a.s.replicas.write(ctx, o, bytes.NewReader(raw))
		if err != nil {
			return nil, nil, err
		}
		z.DeedName, z.DeedSum, z.DeedKey, kept = plain(m.GetDeedName()), hex.EncodeToString(sum[:]), o.Key, []*object{o}
	}
	raw, err := json.Marshal(z)
	if err != nil {
		return nil, nil, fmt.Errorf("conservation: authorisation: %w", err)
	}
	return raw, kept, nil
}

// ApproveDisposal releases the destruction: twice, by two different operators.
func (a retention) ApproveDisposal(ctx context.Context, req *conservationv1.ApproveDisposalRequest) (*conservationv1.Disposal, error) {
	by, person, at := actor(ctx), strings.TrimSpace(req.GetPerson()), pg.Time(a.s.now())
	return a.disposalOf(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, q *db.Queries, d db.Disposal) error {
		var err error
		switch d.State {
		case "AUTHORIZED":
			err = q.ReleaseDisposalOnce(ctx, db.ReleaseDisposalOnceParams{ID: d.ID, By: by, Person: person})
		case "RELEASED_ONCE":
			if by == d.FirstBy || strings.EqualFold(foldName(person), foldName(d.FirstPerson)) {
				return fault.Denied("SAME_PERSON", "%s (%s) has released it already: a second person has to, with an account of its own", d.FirstPerson, d.FirstBy)
			}
			err = q.ReleaseDisposal(ctx, db.ReleaseDisposalParams{ID: d.ID, By: by, Person: person, At: &at})
		default:
			return wrongState(d, "AUTHORIZED")
		}
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "disposal.approve", Resource: req.GetName(), Detail: map[string]string{"person": person}})
	})
}

// WithdrawDisposal ends a disposal of which nothing was destroyed.
func (a retention) WithdrawDisposal(ctx context.Context, req *conservationv1.WithdrawDisposalRequest) (*conservationv1.Disposal, error) {
	at := pg.Time(a.s.now())
	return a.disposalOf(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, q *db.Queries, d db.Disposal) error {
		switch d.State {
		case "PROPOSED", "AUTHORIZED", "RELEASED_ONCE", "RELEASED":
		default:
			return wrongState(d, "not destroyed yet")
		}
		items, err := q.DisposalItems(ctx, d.ID)
		if err != nil {
			return err
		}
		for _, i := range items {
			if i.State == "ERASING" || i.State == "ERASED" || i.State == "DESTROYED" {
				return fault.Precondition("DISPOSAL_UNDER_WAY", "the eraser has begun with %s: it cannot be withdrawn any more; a hold over the packages that it has not begun keeps those", packageName(d.TenantID, i.PackageID))
			}
			_, err = q.SetDisposalItem(ctx, db.SetDisposalItemParams{Disposal: d.ID, Package: i.PackageID, State: "KEPT", Note: "withdrawn", FromStates: []string{"LISTED", "AUTHORIZED"}})
			if err != nil {
				return err
			}
		}
		err = q.WithdrawDisposal(ctx, db.WithdrawDisposalParams{ID: d.ID, At: &at})
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "disposal.withdraw", Resource: req.GetName()})
	})
}

// CompleteDisposal notes that backups hold the documents no more. spec: LG-AgID §4.12 (effect once backups are updated)
func (a retention) CompleteDisposal(ctx context.Context, req *conservationv1.CompleteDisposalRequest) (*conservationv1.Disposal, error) {
	return a.disposalOf(ctx, req.GetName(), func(ctx context.Context, tx pgx.Tx, q *db.Queries, d db.Disposal) error {
		if d.State != "PARTIAL" {
			return wrongState(d, "PARTIAL")
		}
		err := q.CompleteDisposal(ctx, db.CompleteDisposalParams{ID: d.ID, By: actor(ctx), Completion: req.GetStatement()})
		if err != nil {
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "disposal.complete", Resource: req.GetName(), Detail: map[string]string{"statement": req.GetStatement()}})
	})
}

// GetDisposal reads one with its list.
func (a retention) GetDisposal(ctx context.Context, req *conservationv1.GetDisposalRequest) (*conservationv1.Disposal, error) {
	tenant, id, err := parseName("name", req.GetName(), "disposals", noDisposal(req.GetName()))
	if err != nil {
		return nil, err
	}
	var m *conservationv1.Disposal
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		m, err = readDisposal(ctx, db.New(tx), tenant, id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, noDisposal(req.GetName())
	}
	return m, err
}

// ListDisposals lists them, newest first.
func (a retention) ListDisposals(ctx context.Context, req *conservationv1.ListDisposalsRequest) (*conservationv1.ListDisposalsResponse, error) {
	tenant, err := tenantOf(req.GetParent())
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListDisposalsResponse{}
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		rows, err := db.New(tx).ListDisposals(ctx, tenant)
		for i := 0; err == nil && i < len(rows); i++ {
			var m *conservationv1.Disposal
			m, err = disposalMessage(rows[i], nil)
			resp.Disposals = append(resp.Disposals, m)
		}
		return err
	})
	return resp, err
}

// GetDisposalReport gives what was destroyed.
func (a retention) GetDisposalReport(ctx context.Context, req *conservationv1.GetDisposalReportRequest) (*conservationv1.DisposalReport, error) {
	tenant, id, err := parseName("name", req.GetName(), "disposals", noDisposal(req.GetName()))
	if err != nil {
		return nil, err
	}
	var d db.Disposal
	err = a.s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		d, err = db.New(tx).GetDisposal(ctx, db.GetDisposalParams{ID: id, TenantID: tenant})
		return err
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, noDisposal(req.GetName())
	case err != nil:
		return nil, err
	case d.Report == nil:
		return nil, fault.Precondition("DISPOSAL_NOT_DONE", "%s is %s: its report is made when everything on its list is destroyed or kept", req.GetName(), d.State)
	}
	m := &conservationv1.DisposalReport{Disposal: req.GetName(), Content: d.Report}
	if d.ReportID == nil || a.s.replicas == nil {
		return m, nil
	}
	o, err := a.s.object(ctx, tenant, *d.ReportID)
	if err == nil {
		m.Signed, err = a.s.replicas.read(ctx, o)
	}
	if err == nil {
		m.Receipt, err = a.s.reportReceipt(ctx, tenant, req.GetName(), *d.ReportID)
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}
