package conservation

import (
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	conservationv1 "ceralacca.dev/proto/gen/ceralacca/conservation/v1"
	eventv1 "ceralacca.dev/proto/gen/ceralacca/event/v1"
	"ceralacca.dev/services/conservation/internal/db"
	"ceralacca.dev/services/internal/blob"
	"ceralacca.dev/services/internal/fault"
)

// cut splits a resource name into the ids between its collections.
func cut(name string, collections ...string) ([]string, bool) {
	parts := strings.Split(name, "/")
	if len(parts) != 2*len(collections) {
		return nil, false
	}
	ids := make([]string, len(collections))
	for i, c := range collections {
		if parts[2*i] != c || parts[2*i+1] == "" {
			return nil, false
		}
		ids[i] = parts[2*i+1]
	}
	return ids, true
}

// parseName reads tenants/{tenant}/<collection>/{uuid}. An id that is no UUID names nothing.
func parseName(field, name, collection string, missing *fault.Fault) (tenant string, id uuid.UUID, err error) {
	ids, ok := cut(name, "tenants", collection)
	if !ok {
		return "", uuid.Nil, fault.Invalid("NAME_INVALID", "%s: %q is not tenants/{tenant}/%s/{id}", field, name, collection).
			WithField(field, "NAME_INVALID", "not a name of that form")
	}
	id, err = uuid.Parse(ids[1])
	if err != nil {
		return "", uuid.Nil, missing
	}
	return ids[0], id, nil
}

func noUnit(name string) *fault.Fault {
	return fault.NotFound("UNIT_NOT_FOUND", "there is no unit %s", name)
}

func noPackage(name string) *fault.Fault {
	return fault.NotFound("PACKAGE_NOT_FOUND", "there is no package %s", name)
}

func unitName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/units/" + id.String()
}

func packageName(tenant string, id uuid.UUID) string {
	return "tenants/" + tenant + "/packages/" + id.String()
}

func refOf(tenant string, sum []byte, size *int64) blob.Ref {
	ref := blob.Ref{Tenant: tenant}
	copy(ref.SHA256[:], sum)
	if size != nil {
		ref.Size = *size
	}
	return ref
}

func fileRef(f db.UnitFile) blob.Ref { return refOf(f.TenantID, f.Sha256, &f.Size) }

func blobMessage(ref blob.Ref, mediaType string) *eventv1.Blob {
	return &eventv1.Blob{Uri: ref.URI(), Sha256: ref.SHA256[:], Size: ref.Size, MediaType: mediaType}
}

func unitMessage(u db.Unit, files []db.UnitFile) *conservationv1.Unit {
	m := &conservationv1.Unit{
		Name:       unitName(u.TenantID, u.ID),
		Subject:    u.Subject,
		State:      conservationv1.UnitState(conservationv1.UnitState_value["UNIT_STATE_"+u.State]),
		Class:      u.Class,
		FiscalYear: u.FiscalYear,
		CreateTime: timestamppb.New(u.CreatedAt),
		Problem:    u.Problem,
	}
	if u.PackageID != nil {
		m.Package = packageName(u.TenantID, *u.PackageID)
	}
	for _, f := range files {
		m.Files = append(m.Files, &conservationv1.UnitFile{
			Role: f.Role, ReceiptType: f.ReceiptType, FileName: f.FileName, Content: blobMessage(fileRef(f), f.MediaType),
		})
	}
	return m
}

// Media types of a package's files.
const (
	mimeXML    = "application/xml"
	mimeSigned = "application/pkcs7-mime"
	mimeStamp  = "application/timestamp-reply"
	mimeZIP    = "application/zip"
	mimePDF    = "application/pdf"
)

func packageMessage(p db.Package) *conservationv1.Package {
	m := &conservationv1.Package{
		Name:       packageName(p.TenantID, p.ID),
		State:      conservationv1.PackageState(conservationv1.PackageState_value["PACKAGE_STATE_"+p.State]),
		Class:      p.Class,
		FiscalYear: p.FiscalYear,
		UnitCount:  p.UnitCount,
		CreateTime: timestamppb.New(p.ClosedAt),
		LastError:  p.LastError,
	}
	stored := func(sum []byte, size *int64, mediaType string) *eventv1.Blob {
		if sum == nil {
			return nil
		}
		return blobMessage(refOf(p.TenantID, sum, size), mediaType)
	}
	m.Index = stored(p.IndexSha256, p.IndexSize, mimeXML)
	m.SignedIndex = stored(p.SignedSha256, p.SignedSize, mimeSigned)
	m.TimeStamp = stored(p.StampSha256, p.StampSize, mimeStamp)
	m.Archive = stored(p.ArchiveSha256, p.ArchiveSize, mimeZIP)
	if p.ObjectID != nil {
		m.Archive.Uri = "" // it is in the archive's own replicas: DownloadPackageFile gives it
	}
	if p.StampTime != nil {
		m.StampTime = timestamppb.New(*p.StampTime)
	}
	if p.SealedAt != nil {
		m.SealTime = timestamppb.New(*p.SealedAt)
	}
	m.RetainedUntil = timestamppb.New(retainedUntil(p))
	if p.DisposalID != nil {
		m.Disposal = disposalName(p.TenantID, *p.DisposalID)
	}
	return m
}
