"""The report of an ablation: arms over seeds with intervals, compared with a base."""

from jaxvision.report.ablation.analysis import Report, analyse
from jaxvision.report.ablation.read import read_sweep
from jaxvision.report.ablation.sweep import Sweep
from jaxvision.report.ablation.write import write_report

__all__ = ["Report", "Sweep", "analyse", "read_sweep", "write_report"]
