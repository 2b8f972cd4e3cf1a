"""The report of a campaign: one HTML file for clinicians and engineers."""

from nnunet_active.report.report_page import write_report

__all__ = ["write_report"]
