package conservation

import (
	"context"
	"errors"
	"io"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"google.golang.org/grpc"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
	"ceralacca.dev/services/internal/pg"
)

// lastID sorts after every id: lists begin below it.
var lastID = uuid.Max

const (
	defaultPage = 50
	chunkSize   = 256 << 10
)

// GetUnit reads a unit with its files.
func (s *Service) GetUnit(ctx context.Context, req *conservationv1.GetUnitRequest) (*conservationv1.Unit, error) {
	tenant, id, err := parseName("name", req.GetName(), "units", noUnit(req.GetName()))
	if err != nil {
		return nil, err
	}
	var u db.Unit
	var files []db.UnitFile
	err = s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		u, err = q.GetUnit(ctx, id)
		if errors.Is(err, pgx.ErrNoRows) {
			return noUnit(req.GetName())
		}
		if err != nil {
			return err
		}
		files, err = q.FilesOf(ctx, []uuid.UUID{id})
		return err
	})
	if err != nil {
		return nil, err
	}
	return unitMessage(u, files), nil
}

// ListUnits lists a tenant's units, newest first, or those of one invoice or package.
func (s *Service) ListUnits(ctx context.Context, req *conservationv1.ListUnitsRequest) (*conservationv1.ListUnitsResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	args := db.ListUnitsParams{TenantID: ids[0], Subject: req.GetSubject(), Before: lastID}
	if req.GetPackage() != "" {
		tenant, id, err := parseName("package", req.GetPackage(), "packages", noPackage(req.GetPackage()))
		if err != nil {
			return nil, err
		}
		if tenant != ids[0] {
			return nil, noPackage(req.GetPackage())
		}
		args.PackageID = &id
	}
	filter := pg.FilterHash("units", ids[0], req.GetSubject(), req.GetPackage())
	size := pageSize(req.GetPageSize())
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &args.Before)
	if err != nil {
		return nil, err
	}
	args.Page = int32(size + 1) //nolint:gosec // at most 1001
	resp := &conservationv1.ListUnitsResponse{}
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		q := db.New(tx)
		units, err := q.ListUnits(ctx, args)
		if err != nil {
			return err
		}
		units, resp.NextPageToken, err = pg.Page(units, size, filter, func(r db.Unit) []any { return []any{r.ID} })
		if err != nil {
			return err
		}
		resp.Units, err = withFiles(ctx, q, units)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

func pageSize(asked int32) int {
	if asked == 0 {
		return defaultPage
	}
	return int(asked)
}

func withFiles(ctx context.Context, q *db.Queries, units []db.Unit) ([]*conservationv1.Unit, error) {
	ids := make([]uuid.UUID, len(units))
	for i, u := range units {
		ids[i] = u.ID
	}
	files, err := q.FilesOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	of := map[uuid.UUID][]db.UnitFile{}
	for _, f := range files {
		of[f.UnitID] = append(of[f.UnitID], f)
	}
	list := make([]*conservationv1.Unit, len(units))
	for i, u := range units {
		list[i] = unitMessage(u, of[u.ID])
	}
	return list, nil
}

// GetPackage reads a package.
func (s *Service) GetPackage(ctx context.Context, req *conservationv1.GetPackageRequest) (*conservationv1.Package, error) {
	p, err := s.packageOf(ctx, req.GetName())
	if err != nil {
		return nil, err
	}
	return packageMessage(p), nil
}

func (s *Service) packageOf(ctx context.Context, name string) (db.Package, error) {
	tenant, id, err := parseName("name", name, "packages", noPackage(name))
	if err != nil {
		return db.Package{}, err
	}
	return s.pack(ctx, tenant, SealArgs{Tenant: tenant, Package: id})
}

// ListPackages lists a tenant's packages, newest first.
func (s *Service) ListPackages(ctx context.Context, req *conservationv1.ListPackagesRequest) (*conservationv1.ListPackagesResponse, error) {
	ids, ok := cut(req.GetParent(), "tenants")
	if !ok {
		return nil, fault.Invalid("NAME_INVALID", "parent: %q is not tenants/{tenant}", req.GetParent())
	}
	size, before, filter := pageSize(req.GetPageSize()), lastID, pg.FilterHash("packages", ids[0])
	_, err := pg.DecodePageToken(req.GetPageToken(), filter, &before)
	if err != nil {
		return nil, err
	}
	var rows []db.Package
	err = s.db.Tx(ctx, ids[0], func(ctx context.Context, tx pgx.Tx) error {
		rows, err = db.New(tx).ListPackages(ctx, db.ListPackagesParams{TenantID: ids[0], Before: before, Page: int32(size + 1)}) //nolint:gosec // at most 1001
		return err
	})
	if err != nil {
		return nil, err
	}
	resp := &conservationv1.ListPackagesResponse{}
	rows, resp.NextPageToken, err = pg.Page(rows, size, filter, func(r db.Package) []any { return []any{r.ID} })
	if err != nil {
		return nil, err
	}
	for _, p := range rows {
		resp.Packages = append(resp.Packages, packageMessage(p))
	}
	return resp, nil
}

// DownloadPackageFile streams one file of a package. The store verifies the hash while it is read: a
// damaged file ends in an error, never in a good end. Precondition FILE_NOT_READY, UNIT_DESTROYED.
func (s *Service) DownloadPackageFile(req *conservationv1.DownloadPackageFileRequest, stream grpc.ServerStreamingServer[conservationv1.DownloadPackageFileResponse]) error {
	ctx := stream.Context()
	p, err := s.packageOf(ctx, req.GetName())
	if err != nil {
		return err
	}
	if p.State == "ERASING" || p.State == "DESTROYED" { // whatever the store still has: another deposit may have brought the same bytes
		return errDestroyed(req.GetName(), p)
	}
	var ref blob.Ref
	switch req.GetFile() {
	case conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE:
		ref = refOf(p.TenantID, p.ArchiveSha256, p.ArchiveSize)
	case conservationv1.PackageFile_PACKAGE_FILE_INDEX:
		ref = refOf(p.TenantID, p.IndexSha256, p.IndexSize)
	case conservationv1.PackageFile_PACKAGE_FILE_SIGNED_INDEX:
		ref = refOf(p.TenantID, p.SignedSha256, p.SignedSize)
	case conservationv1.PackageFile_PACKAGE_FILE_TIME_STAMP:
		ref = refOf(p.TenantID, p.StampSha256, p.StampSize)
	}
	if ref.SHA256 == [32]byte{} {
		return fault.Precondition("FILE_NOT_READY", "package is %s: this file comes later; follow it with GetPackage", p.State)
	}
	r, err := s.openFile(ctx, p, req.GetFile(), ref)
	if err != nil {
		return err
	}
	err = send(r, stream)
	if closeErr := r.Close(); err == nil {
		err = closeErr
	}
	return err
}

// openFile opens a file of a package where it is.
func (s *Service) openFile(ctx context.Context, p db.Package, file conservationv1.PackageFile, ref blob.Ref) (io.ReadCloser, error) {
	if file != conservationv1.PackageFile_PACKAGE_FILE_ARCHIVE || p.ObjectID == nil {
		return s.blobs.Open(ctx, ref)
	}
	if s.replicas == nil {
		return nil, errStorageOff()
	}
	o, err := s.object(ctx, p.TenantID, *p.ObjectID)
	if err != nil {
		return nil, err
	}
	return s.replicas.open(ctx, o)
}

// object reads the row of an object of the archive.
func (s *Service) object(ctx context.Context, tenant string, id uuid.UUID) (db.ArchiveObject, error) {
	var o db.ArchiveObject
	err := s.db.Tx(ctx, tenant, func(ctx context.Context, tx pgx.Tx) error {
		var err error
		o, err = db.New(tx).GetObject(ctx, id)
		return err
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return o, fault.Internal("OBJECT_UNKNOWN", "there is no row of object %s: the database was changed by hand, or restored", id)
	}
	return o, err
}

func errStorageOff() error {
	return fault.Precondition("STORAGE_OFF", "this document is in the archive's replicas, and none are configured: put conservation.storage back")
}

func errCorruptFile(f db.UnitFile) error {
	return fault.Internal("FILE_CORRUPT", "%s of unit %s is not what was taken in", f.FileName, f.UnitID)
}

func send(r io.Reader, stream grpc.ServerStreamingServer[conservationv1.DownloadPackageFileResponse]) error {
	return chunks(r, func(part []byte) error { return stream.Send(&conservationv1.DownloadPackageFileResponse{Chunk: part}) })
}
