"""The papers that this library's methods, losses and tasks come from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Paper:
    """A paper, by the facts that a bibliography needs."""

    key: str
    authors: str
    title: str
    year: int
    arxiv: str

    def bibtex(self) -> str:
        """The BibTeX entry."""
        fields = {
            "author": self.authors,
            "title": f"{{{self.title}}}",
            "year": str(self.year),
            "eprint": self.arxiv,
            "archivePrefix": "arXiv",
        }
        body = "\n".join(f"  {name} = {{{value}}}," for name, value in fields.items())
        return f"@misc{{{self.key},\n{body}\n}}"


PAPERS: dict[str, Paper] = {
    paper.key: paper
    for paper in (
        Paper(
            "bengio2021flow",
            "Bengio, Emmanuel and Jain, Moksh and Korablyov, Maksym and Precup, Doina and Bengio, Yoshua",
            "Flow Network based Generative Models for Non-Iterative Diverse Candidate Generation",
            2021,
            "2106.04399",
        ),
        Paper(
            "bengio2021foundations",
            "Bengio, Yoshua and Lahlou, Salem and Deleu, Tristan and Hu, Edward J. and Tiwari, Mo and Bengio, Emmanuel",
            "GFlowNet Foundations",
            2021,
            "2111.09266",
        ),
        Paper(
            "malkin2022trajectory",
            "Malkin, Nikolay and Jain, Moksh and Bengio, Emmanuel and Sun, Chen and Bengio, Yoshua",
            "Trajectory balance: Improved credit assignment in GFlowNets",
            2022,
            "2201.13259",
        ),
        Paper(
            "zhang2022generative",
            "Zhang, Dinghuai and Malkin, Nikolay and Liu, Zhen and Volokhova, Alexandra and Courville, Aaron and "
            "Bengio, Yoshua",
            "Generative Flow Networks for Discrete Probabilistic Modeling",
            2022,
            "2202.01361",
        ),
        Paper(
            "cretu2024synflownet",
            "Cretu, Miruna and Harris, Charles and Igashov, Ilia and Schneuing, Arne and Segler, Marwin and "
            "Correia, Bruno and Roy, Julien and Bengio, Emmanuel and others",
            "SynFlowNet: Design of Diverse and Novel Molecules with Synthesis Constraints",
            2024,
            "2405.01155",
        ),
        Paper(
            "tiapkin2024generative",
            "Tiapkin, Daniil and Morozov, Nikita and Naumov, Alexey and Vetrov, Dmitry",
            "Generative Flow Networks as Entropy-Regularized RL",
            2024,
            "2310.12934",
        ),
        Paper(
            "deleu2022bayesian",
            "Deleu, Tristan and G{\\'o}is, Ant{\\'o}nio and Emezue, Chris and Rankawat, Mansi and "
            "Lacoste-Julien, Simon and Bauer, Stefan and Bengio, Yoshua",
            "Bayesian Structure Learning with Generative Flow Networks",
            2022,
            "2202.13903",
        ),
        Paper(
            "madan2022learning",
            "Madan, Kanika and Rector-Brooks, Jarrid and Korablyov, Maksym and Bengio, Emmanuel and Jain, Moksh and "
            "Nica, Andrei and Bosc, Tom and Bengio, Yoshua and Malkin, Nikolay",
            "Learning GFlowNets from partial episodes for improved convergence and stability",
            2022,
            "2209.12782",
        ),
        Paper(
            "pan2023better",
            "Pan, Ling and Malkin, Nikolay and Zhang, Dinghuai and Bengio, Yoshua",
            "Better Training of GFlowNets with Local Credit and Incomplete Trajectories",
            2023,
            "2302.01687",
        ),
        Paper(
            "zhang2023robust",
            "Zhang, David W. and Rainone, Corrado and Peschl, Markus and Bondesan, Roberto",
            "Robust Scheduling with GFlowNets",
            2023,
            "2302.05446",
        ),
        Paper(
            "richter2020vargrad",
            'Richter, Lorenz and Boustati, Ayman and N{\\"u}sken, Nikolas and Ruiz, Francisco J. R. and '
            'Akyildiz, {\\"O}mer Deniz',
            "VarGrad: A Low-Variance Gradient Estimator for Variational Inference",
            2020,
            "2010.10436",
        ),
        Paper(
            "shen2023towards",
            "Shen, Max W. and Bengio, Emmanuel and Hajiramezanali, Ehsan and Loukas, Andreas and Cho, Kyunghyun and "
            "Biancalani, Tommaso",
            "Towards Understanding and Improving GFlowNet Training",
            2023,
            "2305.07170",
        ),
        Paper(
            "cheng2016wide",
            "Cheng, Heng-Tze and Koc, Levent and Harmsen, Jeremiah and Shaked, Tal and others",
            "Wide \\& Deep Learning for Recommender Systems",
            2016,
            "1606.07792",
        ),
        Paper(
            "venkatraman2024amortizing",
            "Venkatraman, Siddarth and Jain, Moksh and Scimeca, Luca and Kim, Minsu and others",
            "Amortizing intractable inference in diffusion models for vision, language, and control",
            2024,
            "2405.20971",
        ),
        Paper(
            "hu2024beyond",
            "Hu, Rui and Zhang, Yifan and Li, Zhuoran and Huang, Longbo",
            "Beyond Squared Error: Exploring Loss Design for Enhanced Training of Generative Flow Networks",
            2024,
            "2410.02596",
        ),
        Paper(
            "deleu2025relative",
            "Deleu, Tristan and others",
            "Relative Trajectory Balance is equivalent to Trust-PCL",
            2025,
            "2509.01632",
        ),
        Paper(
            "fawkes2026ftb",
            "Fawkes, Jake and Hartford, Jason",
            "f-Trajectory Balance: A Loss Family for Tuning GFlowNets, Generative Models, and LLMs with Off- and "
            "On-Policy Data",
            2026,
            "2605.15417",
        ),
        Paper(
            "nachum2018trust",
            "Nachum, Ofir and Norouzi, Mohammad and Xu, Kelvin and Schuurmans, Dale",
            "Trust-PCL: An Off-Policy Trust Region Method for Continuous Control",
            2018,
            "1707.01891",
        ),
        Paper(
            "schulman2017proximal",
            "Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg",
            "Proximal Policy Optimization Algorithms",
            2017,
            "1707.06347",
        ),
        Paper(
            "fan2023dpok",
            "Fan, Ying and Watkins, Olivia and Du, Yuqing and Liu, Hao and Ryu, Moonkyung and Boutilier, Craig and "
            "Abbeel, Pieter and Ghavamzadeh, Mohammad and Lee, Kangwook and Lee, Kimin",
            "DPOK: Reinforcement Learning for Fine-tuning Text-to-Image Diffusion Models",
            2023,
            "2305.16381",
        ),
        Paper(
            "ho2020denoising",
            "Ho, Jonathan and Jain, Ajay and Abbeel, Pieter",
            "Denoising Diffusion Probabilistic Models",
            2020,
            "2006.11239",
        ),
        Paper(
            "bartoldson2025trajectory",
            "Bartoldson, Brian R. and Venkatraman, Siddarth and Diffenderfer, James and Jain, Moksh and Ben-Nun, Tal "
            "and Lee, Seanie and Kim, Minsu and Obando-Ceron, Johan and Bengio, Yoshua and Kailkhura, Bhavya",
            "Trajectory Balance with Asynchrony: Decoupling Exploration and Learning for Fast, Scalable LLM "
            "Post-Training",
            2025,
            "2503.18929",
        ),
        Paper(
            "kimi2025scaling",
            "{Kimi Team}",
            "Kimi k1.5: Scaling Reinforcement Learning with LLMs",
            2025,
            "2501.12599",
        ),
        Paper(
            "ahmadian2024back",
            "Ahmadian, Arash and Cremer, Chris and Gall{\\'e}, Matthias and Fadaee, Marzieh and Kreutzer, Julia and "
            'Pietquin, Olivier and {\\"U}st{\\"u}n, Ahmet and Hooker, Sara',
            "Back to Basics: Revisiting REINFORCE Style Optimization for Learning from Human Feedback in LLMs",
            2024,
            "2402.14740",
        ),
        Paper(
            "shao2024deepseekmath",
            "Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and others",
            "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models",
            2024,
            "2402.03300",
        ),
        Paper(
            "liu2025understanding",
            "Liu, Zichen and Chen, Changyu and Li, Wenjun and Qi, Penghui and Pang, Tianyu and Du, Chao and "
            "Lee, Wee Sun and Lin, Min",
            "Understanding R1-Zero-Like Training: A Critical Perspective",
            2025,
            "2503.20783",
        ),
        Paper(
            "minimax2025m1",
            "{MiniMax}",
            "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention",
            2025,
            "2506.13585",
        ),
        Paper(
            "guo2024direct",
            "Guo, Shangmin and Zhang, Biao and Liu, Tianlin and Liu, Tianqi and Khalman, Misha and others",
            "Direct Language Model Alignment from Online AI Feedback",
            2024,
            "2402.04792",
        ),
        Paper(
            "cobbe2021training",
            "Cobbe, Karl and Kosaraju, Vineet and Bavarian, Mohammad and Chen, Mark and Jun, Heewoo and others",
            "Training Verifiers to Solve Math Word Problems",
            2021,
            "2110.14168",
        ),
        Paper(
            "dhariwal2021diffusion",
            "Dhariwal, Prafulla and Nichol, Alex",
            "Diffusion Models Beat GANs on Image Synthesis",
            2021,
            "2105.05233",
        ),
        Paper(
            "chung2023diffusion",
            "Chung, Hyungjin and Kim, Jeongsol and McCann, Michael T. and Klasky, Marc L. and Ye, Jong Chul",
            "Diffusion Posterior Sampling for General Noisy Inverse Problems",
            2023,
            "2209.14687",
        ),
        Paper(
            "black2023training",
            "Black, Kevin and Janner, Michael and Du, Yilun and Kostrikov, Ilya and Levine, Sergey",
            "Training Diffusion Models with Reinforcement Learning",
            2023,
            "2305.13301",
        ),
        Paper(
            "kim2024local",
            "Kim, Minsu and Yun, Taeyoung and Bengio, Emmanuel and Zhang, Dinghuai and Bengio, Yoshua and others",
            "Local Search GFlowNets",
            2024,
            "2310.02710",
        ),
        Paper(
            "kim2025adaptive",
            "Kim, Minsu and Choi, Sanghyeok and Yun, Taeyoung and Bengio, Emmanuel and Feng, Leo and others",
            "Adaptive Teachers for Amortized Samplers",
            2025,
            "2410.01432",
        ),
        Paper(
            "rectorbrooks2023thompson",
            "Rector-Brooks, Jarrid and Madan, Kanika and Jain, Moksh and Korablyov, Maksym and others",
            "Thompson Sampling for Improved Exploration in GFlowNets",
            2023,
            "2306.17693",
        ),
        Paper(
            "kim2024learning",
            "Kim, Minsu and Ko, Joohwan and Yun, Taeyoung and Zhang, Dinghuai and Pan, Ling and others",
            "Learning to Scale Logits for Temperature-Conditional GFlowNets",
            2024,
            "2310.02823",
        ),
        Paper(
            "gritsaev2025optimizing",
            "Gritsaev, Timofei and Morozov, Nikita and Samsonov, Sergey and Tiapkin, Daniil",
            "Optimizing Backward Policies in GFlowNets via Trajectory Likelihood Maximization",
            2025,
            "2410.15474",
        ),
        Paper(
            "jang2024pessimistic",
            "Jang, Hyosoon and Jang, Yunhui and Kim, Minsu and Park, Jinkyoo and Ahn, Sungsoo",
            "Pessimistic Backward Policy for GFlowNets",
            2024,
            "2405.16012",
        ),
        Paper(
            "mohammadpour2024maximum",
            "Mohammadpour, Sobhan and Bengio, Emmanuel and Frejinger, Emma and Bacon, Pierre-Luc",
            "Maximum Entropy GFlowNets with Soft Q-Learning",
            2024,
            "2312.14331",
        ),
        Paper(
            "abir2025abflownet",
            "Abir, A. R. and Shahgir, H. S. and Ratul, M. R. Z. and Tahmid, M. T. and Ver Steeg, G. and Dong, Y.",
            "AbFlowNet: Optimizing Antibody-Antigen Binding Energy via Diffusion-GFlowNet Fusion",
            2025,
            "2505.12358",
        ),
    )
}
