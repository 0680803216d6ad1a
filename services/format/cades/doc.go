// Package cades makes and checks CAdES signatures: BES (".p7m" as SdI takes it) and T (BES with
// a signature time-stamp).
//
// It owns the attributes that turn a CMS signature into a CAdES one and the judgement of the
// time-stamp over it. It refuses to choose keys, certificates or authorities, and the levels
// LT and LTA; CMS itself is package cms.
package cades
