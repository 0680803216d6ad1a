package pg

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"ceralacca.dev/services/internal/fault"
)

// CodeUnavailable is the code of every fault that says the database itself is away or overloaded:
// nothing is wrong with what was asked.
const CodeUnavailable = "DATABASE_UNAVAILABLE"

// Error maps what the driver returned to a fault; the original stays in the chain. What is a fault
// already, an ended context, pgx.ErrNoRows and errors that are not the database's pass unchanged.
//
//	23505 unique        -> Conflict     UNIQUE_VIOLATION (constraint name as field)
//	23503 foreign key   -> Precondition FOREIGN_KEY_VIOLATION
//	23514 check         -> Invalid      CHECK_VIOLATION
//	42501 RLS, grants   -> Denied       DATABASE_DENIED
//	40001, 40P01, 55P03 -> Unavailable  DATABASE_CONTENTION
//	57014 timeout       -> Unavailable  DATABASE_TIMEOUT
//	08, 53, 57P0x, lost connection -> Unavailable DATABASE_UNAVAILABLE
func Error(err error) error {
	if err == nil {
		return nil
	}
	var f *fault.Fault
	if errors.As(err, &f) || errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return fromServer(pe, err)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	var ce *pgconn.ConnectError
	var ne net.Error
	if errors.As(err, &ce) || errors.As(err, &ne) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed") {
		return fault.Unavailable(CodeUnavailable, "the database does not answer").With(err)
	}
	return err
}

func fromServer(pe *pgconn.PgError, err error) error {
	switch pe.Code {
	case "23505", "23P01":
		return fault.Conflict("UNIQUE_VIOLATION", "exists already").
			WithField(pe.ConstraintName, "UNIQUE", "another row holds this value").With(err)
	case "23503":
		return fault.Precondition("FOREIGN_KEY_VIOLATION", "refers to something that does not exist, or is still referred to").
			WithField(pe.ConstraintName, "REFERENCE", "no such row").With(err)
	case "23514":
		return fault.Invalid("CHECK_VIOLATION", "a value breaks a rule of the database").
			WithField(pe.ConstraintName, "CHECK", "value out of its rule").With(err)
	case "42501":
		return fault.Denied("DATABASE_DENIED", "the database refuses this to the caller").With(err)
	case "40001", "40P01", "55P03":
		return fault.Unavailable("DATABASE_CONTENTION", "others hold the same rows; try again").With(err)
	case "57014":
		return fault.Unavailable("DATABASE_TIMEOUT", "the database took too long").With(err)
	case "25006", "57P01", "57P02", "57P03", "57P05", "25P03":
		return fault.Unavailable(CodeUnavailable, "the database does not answer").With(err)
	case "0A000":
		// "cached plan must not change result type": a migration ran under us; a repeat plans anew.
		if strings.Contains(pe.Message, "cached plan") {
			return fault.Unavailable("DATABASE_CONTENTION", "the schema changed just now; try again").With(err)
		}
	}
	if strings.HasPrefix(pe.Code, "08") || strings.HasPrefix(pe.Code, "53") {
		return fault.Unavailable(CodeUnavailable, "the database does not answer").With(err)
	}
	return err
}

// Constraint is the name of the constraint that err says was broken; empty when none was. Services
// use it to turn UNIQUE_VIOLATION into a fault of their own.
func Constraint(err error) string {
	var pe *pgconn.PgError
	if errors.As(err, &pe) {
		return pe.ConstraintName
	}
	return ""
}

// Away tells whether err says that the database itself is away, as opposed to refusing a statement; also what was made of such an error.
func Away(err error) bool { return errors.Is(err, fault.Unavailable(CodeUnavailable, "")) }

// Contended tells whether err says that others held the same rows: the same transaction may well succeed at once.
func Contended(err error) bool { return errors.Is(err, fault.Unavailable("DATABASE_CONTENTION", "")) }
