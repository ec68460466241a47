"""The energy of a complex by a force field, for designs that are finished: Amber14 in implicit water, by OpenMM.

Minutes a complex on one core: for a final table, never inside a loop. Side chains and hydrogens are added by PDBFixer.
Needs the extra `openmm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

KILOCALORIE = 4.184
"""kJ/mol in one kcal/mol."""

FORCES = ("amber14-all.xml", "implicit/gbn2.xml")

PH = 7.0


def binding_energy(
    path: Path, antibody: Sequence[str], *, iterations: int = 60, seed: int = 0, threads: int = 1
) -> dict[str, float]:
    """Energy of a complex less those of its two sides as they lie in it, kcal/mol.

    Args:
        path: a PDB file, such as `equipoise sample RUN --complex FILE --out FOLDER` writes; backbones are enough.
        antibody: names of the antibody's chains; all others are the antigen.
        iterations: of minimisation of the whole complex before it is judged; 0: as it is, which for ideal backbones is
            mostly clashes; a few hundred for figures that are compared.
        seed: of where side chains are tried.
        threads: that OpenMM may use.

    Returns:
        complex, antibody, antigen, and binding, the difference: without entropy, so no affinity.

    Raises:
        ImportError: the extra is not installed.
        ValueError: chains that the file does not have, or no antigen; a file that the force field cannot be put on.

    Source: Maier et al. 2015 (ff14SB), doi:10.1021/acs.jctc.5b00255; Nguyen, Roe and Simmerling 2013 (GB-Neck2),
    doi:10.1021/ct3010485; OpenMM 8, Eastman et al. 2023, arXiv:2310.03121.
    """
    openmm, app, fixed = _imported(path)
    names = [chain.id for chain in fixed.topology.chains()]
    unknown = sorted(set(antibody) - set(names))
    if unknown or not set(names) - set(antibody) or not antibody:
        raise ValueError(
            f"'{path}' has chains {' '.join(names)} and the antibody's are said to be {' '.join(antibody) or 'none'}: "
            "some of the file's chains, and not all, were expected"
        )
    try:
        fixed.findMissingAtoms()
        fixed.addMissingAtoms(seed=seed)
        fixed.addMissingHydrogens(PH)
        field = app.ForceField(*FORCES)
        whole = app.Modeller(fixed.topology, fixed.positions)
        energy, positions = _energy(openmm, app, field, whole, iterations, threads)
    except (ValueError, KeyError, openmm.OpenMMException) as error:
        raise ValueError(f"the force field cannot be put on '{path}': {' '.join(str(error).split())}") from error
    found = {"complex": energy}
    for side, keeps in (("antibody", True), ("antigen", False)):
        part = app.Modeller(fixed.topology, positions)
        part.delete([chain for chain in part.topology.chains() if (chain.id in antibody) != keeps])
        found[side], _ = _energy(openmm, app, field, part, 0, threads)
    return {**found, "binding": found["complex"] - found["antibody"] - found["antigen"]}


def _energy(openmm: Any, app: Any, field: Any, model: Any, iterations: int, threads: int) -> tuple[float, Any]:
    """kcal/mol, and the positions after minimisation."""
    system = field.createSystem(model.topology, nonbondedMethod=app.NoCutoff)
    platform = openmm.Platform.getPlatformByName("CPU")
    context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": str(threads)})
    context.setPositions(model.positions)
    if iterations:
        openmm.LocalEnergyMinimizer.minimize(context, maxIterations=iterations)
    state = context.getState(getEnergy=True, getPositions=True)
    kilojoules = state.getPotentialEnergy().value_in_unit(openmm.unit.kilojoule_per_mole)
    return kilojoules / KILOCALORIE, state.getPositions()


def _imported(path: Path) -> tuple[Any, Any, Any]:
    """OpenMM, its `app`, and the file as PDBFixer reads it."""
    try:
        openmm, app, pdbfixer = (import_module(name) for name in ("openmm", "openmm.app", "pdbfixer"))
    except ImportError as error:
        raise ImportError(
            f"energies of a force field need OpenMM and PDBFixer ({error}): pip install 'equipoise[openmm]'"
        ) from error
    with path.open() as file:
        fixer = pdbfixer.PDBFixer(pdbfile=file)
    fixer.missingResidues = {}
    fixer.findNonstandardResidues()
    fixer.replaceNonstandardResidues()
    fixer.removeHeterogens(keepWater=False)
    return openmm, app, fixer
