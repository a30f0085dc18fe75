// Package licenses has no code: its test holds THIRD_PARTY_LICENSES.txt, which goes into packages and image, against the modules that the program
// is linked of and the assets that it embeds, and writes it under MILLPOND_WRITE_DOCS.
package licenses
