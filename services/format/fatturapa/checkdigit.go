package fatturapa

// ValidVATNumber reports whether s is eleven digits with the check digit of an
// Italian VAT number. Only the tax register knows whether the number is assigned.
func ValidVATNumber(s string) bool {
	if len(s) != 11 {
		return false
	}
	sum, zero := 0, true
	for i := range 11 {
		d := int(s[i]) - '0'
		if d < 0 || d > 9 {
			return false
		}
		zero = zero && d == 0
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0 && !zero
}

// oddValues are the weights of letters (and of the digits that they stand for) in
// the odd places of a tax code.
//
// spec: DM 23/12/1976, check character of the tax code
var oddValues = [26]int{1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23}

// ValidTaxCode reports whether s has the form and the check character of an
// Italian tax code: sixteen characters for a person, also with letters in place
// of digits (omocodia), or eleven digits for a company.
func ValidTaxCode(s string) bool {
	if len(s) == 11 {
		return ValidVATNumber(s)
	}
	if len(s) != 16 {
		return false
	}
	sum := 0
	for i := range 16 {
		c := s[i]
		isDigit := c >= '0' && c <= '9'
		if !isDigit && (c < 'A' || c > 'Z') {
			return false
		}
		switch i {
		case 6, 7, 9, 10, 12, 13, 14: // digits, or the letters that replace them
			if !isDigit && !isOmocodia(c) {
				return false
			}
		default:
			if isDigit {
				return false
			}
		}
		v := int(c - 'A')
		if isDigit {
			v = int(c - '0')
		}
		if i == 15 {
			return sum%26 == v
		}
		if i%2 == 0 {
			v = oddValues[v]
		}
		sum += v
	}
	return false
}

// isOmocodia reports whether a letter may stand for a digit: L M N P Q R S T U V.
func isOmocodia(c byte) bool { return c >= 'L' && c <= 'V' && c != 'O' }
