package pg

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// registerUUID lets uuid.UUID travel as the sixteen bytes that it is. Without it pgx goes by way of
// database/sql and text, which showed as a tenth of the CPU time of an event.
func registerUUID(_ context.Context, conn *pgx.Conn) error {
	m := conn.TypeMap()
	one := &pgtype.Type{Name: "uuid", OID: pgtype.UUIDOID, Codec: uuidCodec{}}
	m.RegisterType(one)
	m.RegisterType(&pgtype.Type{Name: "_uuid", OID: pgtype.UUIDArrayOID, Codec: &pgtype.ArrayCodec{ElementType: one}})
	m.RegisterDefaultPgType(uuid.UUID{}, "uuid")
	m.RegisterDefaultPgType([]uuid.UUID{}, "_uuid")
	return nil
}

// uuidCodec is pgx's own, with a short way for uuid.UUID.
type uuidCodec struct{ pgtype.UUIDCodec }

func (c uuidCodec) PlanEncode(m *pgtype.Map, oid uint32, format int16, value any) pgtype.EncodePlan {
	if _, ok := value.(uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanEncode(m, oid, format, value)
}

func (c uuidCodec) PlanScan(m *pgtype.Map, oid uint32, format int16, target any) pgtype.ScanPlan {
	if _, ok := target.(*uuid.UUID); ok && format == pgtype.BinaryFormatCode {
		return uuidPlan{}
	}
	return c.UUIDCodec.PlanScan(m, oid, format, target)
}

// DecodeValue yields uuid.UUID where the target has no type of its own.
func (c uuidCodec) DecodeValue(m *pgtype.Map, oid uint32, format int16, src []byte) (any, error) {
	if src == nil {
		return nil, nil //nolint:nilnil // SQL NULL
	}
	var id uuid.UUID
	err := m.Scan(oid, format, src, &id)
	if err != nil {
		return nil, fmt.Errorf("pg: uuid: %w", err)
	}
	return id, nil
}

type uuidPlan struct{}

func (uuidPlan) Encode(value any, buf []byte) ([]byte, error) {
	id, ok := value.(uuid.UUID)
	if !ok {
		return nil, fmt.Errorf("pg: %T is no uuid.UUID", value)
	}
	return append(buf, id[:]...), nil
}

func (uuidPlan) Scan(src []byte, target any) error {
	id, ok := target.(*uuid.UUID)
	switch {
	case !ok:
		return fmt.Errorf("pg: %T is no *uuid.UUID", target)
	case src == nil:
		return errors.New("pg: NULL does not fit into a uuid.UUID: scan into a *uuid.UUID")
	case len(src) != len(id):
		return fmt.Errorf("pg: a uuid of %d bytes", len(src))
	}
	copy(id[:], src)
	return nil
}
