package conservation

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/conservation/internal/vault"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/telemetry"
)

// condemned says of an object without a row whether a disposal destroys it or did, and tells what that means: while a lock or an
// absent disk keeps the bytes from the eraser, they are nobody's loss. What has come back is left to the eraser once more.
func (s *Service) condemned(ctx context.Context, f *findings, x *replica, e vault.Entry) (bool, error) {
	p := strings.Split(e.Key, "/")
	if len(p) < 2 {
		return false, nil
	}
	var by []db.CondemnedByRow
	err := s.db.Tx(ctx, p[1], func(ctx context.Context, tx pgx.Tx) error {
		var err error
		by, err = db.New(tx).CondemnedBy(ctx, db.CondemnedByParams{Tenant: p[1], Key: e.Key})
		return err
	})
	switch {
	case err != nil || len(by) == 0:
		return false, err
	case by[0].Gone:
		return true, s.cameBack(ctx, f, x, e, disposalName(p[1], by[0].DisposalID))
	}
	f.note("%s replica: %s has no row, since %s destroys it: the eraser has not ended with it", x.name, e.Key, disposalName(p[1], by[0].DisposalID))
	return true, nil
}

// cameBack has an object destroyed that was destroyed before. In one of what was taken in may lie the only bytes of what stands, when the replicas
// have lost those to which its rows lead: a person looks at that first.
func (s *Service) cameBack(ctx context.Context, f *findings, x *replica, e vault.Entry, disposal string) error {
	held, err := s.replicas.hold(ctx, e.Key)
	if err != nil || !held { // the eraser was at it while the replica was listed
		return err
	}
	tenant, said, n := strings.Split(e.Key, "/")[1], "", fates{}
	if strings.HasPrefix(e.Key, "tenants/"+tenant+"/intake/") {
		n, err = s.fates(ctx, x, e)
		switch {
		case err != nil && fault.Of(err).Kind == fault.KindUnavailable:
			return err
		case err != nil:
			said = fmt.Sprintf("it cannot be read (%v): remove it by hand", fault.Of(err).Error())
		case n.unclear:
			said = n.remedy(x, false)
		case n.lost > 0:
			said = fmt.Sprintf("remove it by hand, once it is known why %d of its %d units, which stand, lie nowhere else", n.lost, n.units)
		}
	}
	if said == "" {
		done := false
		done, err = s.condemnAgain(ctx, f, tenant, e.Key, n, disposal)
		said = "the eraser destroys it once more"
		if !done {
			said = n.remedy(x, false)
		}
	}
	if err == nil {
		f.bad(e.Key, "%s replica: it was destroyed by %s and is there again, such as from a backup: %s", x.name, disposal, said)
	}
	return err
}

func (s *Service) condemnAgain(ctx context.Context, f *findings, tenant, key string, n fates, disposal string) (done bool, err error) {
	err = s.db.Tx(telemetry.WithActor(ctx, "service:conservation"), tenant, func(ctx context.Context, tx pgx.Tx) error {
		done = false
		q := db.New(tx)
		err := q.LockDisposals(ctx, tenant)
		if err != nil {
			return err
		}
		safe, err := q.KeysInGoodHands(ctx, db.KeysInGoodHandsParams{Tenant: tenant, Keys: n.standing})
		if err != nil || len(safe) < len(n.standing) {
			return err
		}
		done = true
		rows, err := q.CondemnAgain(ctx, db.CondemnAgainParams{Tenant: tenant, Key: key})
		if err != nil || rows == 0 { // another check was first
			return err
		}
		return telemetry.Audit(ctx, tx, telemetry.Act{Action: "object.condemn", Resource: key, Detail: map[string]string{"disposal": disposal, "report": f.Report}})
	})
	return done, err
}

// condemnStray leaves an object to the eraser that no row knows, in which destroyed documents lie and nothing that is lost. done: it goes.
func (s *Service) condemnStray(ctx context.Context, f *findings, e vault.Entry, n fates) (done bool, err error) {
	if n.destroyed == 0 || n.lost > 0 || n.unclear {
		return false, nil
	}
	tenant := strings.Split(e.Key, "/")[1]
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error { return db.New(tx).AwaitObjects(ctx, tenant) }) // who was writing it has its row now
	if err != nil {
		return false, err
	}
	err = s.db.Tx(telemetry.WithActor(ctx, "service:conservation"), tenant, func(ctx context.Context, tx pgx.Tx) error {
		done = false
		q := db.New(tx)
		err := q.LockDisposals(ctx, tenant)
		if err != nil {
			return err
		}
		rows, err := q.ObjectKeysKnown(ctx, []string{e.Key})
		if err != nil || len(rows) > 0 {
			return err
		}
		safe, err := q.KeysInGoodHands(ctx, db.KeysInGoodHandsParams{Tenant: tenant, Keys: n.standing})
		if err != nil || len(safe) < len(n.standing) { // its bytes may be wanted for a repair
			return err
		}
		names, err := condemn(ctx, tx, f, tenant, vault.Object{Key: e.Key, Size: e.Size, SHA256: n.sum}, n.keys, "left of an attempt to take documents in")
		done = len(names) > 0
		return err
	})
	return done && err == nil, err
}

// condemn has the eraser destroy an object in which documents of these keys lie, which disposals destroyed. It gives their names.
func condemn(ctx context.Context, tx pgx.Tx, f *findings, tenant string, o vault.Object, keys []string, what string) (names []string, err error) {
	q := db.New(tx)
	by, err := q.DisposalsOfKeys(ctx, db.DisposalsOfKeysParams{Tenant: tenant, Keys: keys})
	for i := 0; err == nil && i < len(by); i++ {
		name := disposalName(tenant, by[i].DisposalID)
		names = append(names, name)
		err = q.CondemnObject(ctx, db.CondemnObjectParams{
			Disposal: by[i].DisposalID, Package: by[i].PackageID, TenantID: tenant, Key: o.Key, Sha256: o.SHA256[:], Size: o.Size, What: what,
		})
		if err == nil {
			err = telemetry.Audit(ctx, tx, telemetry.Act{Action: "object.condemn", Resource: o.Key, Detail: map[string]string{"disposal": name, "report": f.Report}})
		}
	}
	return names, err
}
