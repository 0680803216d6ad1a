//go:build unix && !linux

package signer_test

import "testing"

// usage is not known on this system.
func (h *house) usage(*testing.B) usage { return usage{} }

// apart: processes cannot be kept on processors on this system.
func apart(*testing.B, *house) bool { return false }

func shared(*testing.B, *house) {}
