"""The bench: rows say what the issue asks and are true to their own numbers; what is sent is real. Nothing here is timed."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import procfs
import run
from figures import FULL_MB, Figure, figures, holds, to_json
from floors import DurableWrite, copy_s
from packages import Answers
