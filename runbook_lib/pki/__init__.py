"""Certificates, CSRs and the judgements over them. Pure: no file, no network, no clock."""
